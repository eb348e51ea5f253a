"""Compare the arms of a study: `study.parquet`, `verdicts.json` and a page, from the runs that are finished."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pandas as pd

from videodpo.config.errors import InputError
from videodpo.storage.files import json_text, write_text
from videodpo.storage.manifests import record_json
from videodpo.storage.schemas import STUDY
from videodpo.storage.tables import write_table
from videodpo.tools.study.arms import compare_arms, format_arms
from videodpo.tools.study.findings import judge_findings
from videodpo.tools.study.page import render
from videodpo.tools.study.results import Missing, judges_of, read_plan, read_runs, table_rows


def write_study(root: Path) -> str:
    """Write the tables and the page of a study, and return the arms and the verdicts as text for the terminal.

    Args:
        root: <results>/<name of the study>.

    Raises:
        InputError: the folder is not that of a study, or no run of it is finished.
    """
    plan = read_plan(root)
    runs, missing = read_runs(root, plan)
    if not runs:
        listing = "\n  ".join(map(_missing_line, missing))
        raise InputError(f"{root}: nothing to compare; no run of the study is finished:\n  {listing}")
    rows, findings = table_rows(runs, plan["bootstrap_resamples"]), judge_findings(plan, runs)
    table, judges = pd.DataFrame(rows), judges_of(runs)
    arms = compare_arms(table, plan)
    digest = _digest(plan)
    write_table(root / "study.parquet", rows, STUDY, stage="study", digest=digest, seed=plan["study"]["seeds"][0])
    record_json(root / "verdicts.json", findings)
    write_text(root / "index.html", render(root, plan, table, arms, judges, findings, missing))
    return _text(root, plan, format_arms(arms, judges), findings, missing)


def _digest(plan: dict[str, Any]) -> str:
    return hashlib.sha256(json_text(plan).encode()).hexdigest()


def _text(root: Path, plan: dict[str, Any], arms: str, findings: list[dict[str, Any]], missing: list[Missing]) -> str:
    num_runs = len(plan["runs"])
    lines = [f"{plan['study']['name']}: {num_runs - len(missing)} of {num_runs} runs are finished", "", arms]
    for finding in findings:
        paper = f" (the paper: {finding['paper']})" if finding["paper"] else ""
        lines += ["", f"{finding['claim']}{paper}", f"  {finding['text']}"]
    if missing:
        lines += ["", "not finished:", *(f"  {_missing_line(one)}" for one in missing)]
    lines += ["", f"page: {(root / 'index.html').resolve()}"]
    return "\n".join(lines)


def _missing_line(one: Missing) -> str:
    return f"{one.arm}, seed {one.seed}: missing {one.lacks}; " + (f"log: {one.log}" if one.log else "not started")
