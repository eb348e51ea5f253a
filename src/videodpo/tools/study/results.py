"""Evaluations of a study's runs, on one OmniScore for all arms, and the state of the runs that are not finished."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from videodpo.config import OmniScore, validate
from videodpo.config.errors import InputError
from videodpo.preference import omniscore
from videodpo.preference.statistics import bootstrap_interval
from videodpo.runtime.seeds import derive_seed
from videodpo.storage.files import read_json
from videodpo.storage.manifests import read_json as read_intact
from videodpo.storage.manifests import run_of
from videodpo.storage.tables import read_table

KEY = ["prompt_id", "sample"]
TOTALS = ("omniscore", "quality", "semantic")
SIDES = ("base", "aligned")
# Files of a run in the order in which they are made, each with the logs of the jobs that lead to it.
_STEPS = {
    "prompts.parquet": ["prompts.log"],
    "{round}/videos/shards.json": ["generate"],
    "{round}/omniscore.parquet": ["omniscore.log", "score", "collect_scores"],
    "{round}/pairs.parquet": ["pairs.log"],
    "{round}/visits.parquet": ["visits.log"],
    "{round}/doctor.json": ["doctor.log", "reference"],
    "{round}/adapter": ["train.log"],
    "{round}/evaluation/videos/base/shard-00000.parquet": ["evaluate_generate/base"],
    "{round}/evaluation/videos/aligned/shard-00000.parquet": ["evaluate_generate/aligned"],
    "{round}/evaluation/summary.json": ["evaluate.log", "evaluate_score", "evaluate_collect_scores"],
}


@dataclass(frozen=True)
class Run:
    """One finished run.

    Attributes:
        scores: one row per clip: prompt_id, sample, and `base_<score>` and `aligned_<score>` for each score.
        summary: content of the run's summary.json.
    """

    arm: str
    seed: int
    scores: pd.DataFrame
    summary: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """Scores of the run: OmniScore and pillars, then dimensions and judges by name."""
        found = {column.partition("_")[2] for column in self.scores.columns if column.startswith("base_")}
        first = [name for name in TOTALS if name in found]
        return first + sorted(found - set(first))


@dataclass(frozen=True)
class Missing:
    """One run that is not finished, and the log of the step that it lacks; None if no job of the step was started."""

    arm: str
    seed: int
    lacks: str
    log: str | None


def read_plan(root: Path) -> dict[str, Any]:
    """Read what the workflow stored about a study.

    Raises:
        InputError: the folder is not that of a study.
    """
    if not (root / "study.json").is_file():
        raise InputError(f"{root}: not a study's folder (no study.json); give <results>/<name>")
    plan: dict[str, Any] = read_json(root / "study.json")
    return plan


def read_runs(root: Path, plan: Mapping[str, Any]) -> tuple[list[Run], list[Missing]]:
    """Read all evaluations of the study's runs."""
    formula = validate(OmniScore, plan["omniscore"], "omniscore").by_range
    runs: list[Run] = []
    missing: list[Missing] = []
    for entry in plan["runs"]:
        folder, round_name = root / entry["folder"], f"round{entry['round']}"
        evaluation = folder / round_name / "evaluation"
        if not (evaluation / "summary.json").is_file():
            missing.append(Missing(entry["arm"], entry["seed"], *_first_missing(folder, entry["round"])))
            continue
        scores = scores_by_clip(read_table(evaluation / "prompts.parquet"), formula)
        runs.append(Run(entry["arm"], entry["seed"], scores, read_intact(evaluation / "summary.json")))
    return runs, missing


def table_rows(runs: list[Run], resamples: int) -> list[dict[str, Any]]:
    """Rows of `study.parquet`: one per arm, seed and score."""
    rows = []
    for run in runs:
        motion = (run.summary["motion"] or {}).get("relative_change")
        strength = (run.summary.get("strength") or {}).get("mean")
        for name in run.names:
            clips = run.scores[[*KEY, *(f"{side}_{name}" for side in SIDES)]].dropna()
            base, aligned = (clips[f"{side}_{name}"] for side in SIDES)
            delta = aligned - base
            seed = derive_seed(run.seed, "bootstrap")
            low, high = bootstrap_interval(delta, clips.prompt_id, resamples=resamples, seed=seed) or (None, None)
            own = run.summary["dimensions"].get(name, {})
            if name in TOTALS and not np.isclose(own.get("delta", np.nan), delta.mean()):
                own = {}  # headroom and gain by the arm's own formula do not compare
            rows.append(
                {
                    "arm": run.arm,
                    "seed": run.seed,
                    "score": name,
                    "base": float(base.mean()),
                    "aligned": float(aligned.mean()),
                    "delta": float(delta.mean()),
                    "ci_low": low,
                    "ci_high": high,
                    "num_prompts": int(clips.prompt_id.nunique()),
                    "headroom": own.get("headroom"),
                    "gain": own.get("gain"),
                    "strength": strength,
                    "motion": motion,
                }
            )
    return rows


def judges_of(runs: list[Run]) -> list[str]:
    """Scores of the runs that no arm is trained on, by name."""
    return sorted({name for run in runs for name, one in run.summary["dimensions"].items() if one["kind"] == "judge"})


def scores_by_clip(rows: pd.DataFrame, formula: OmniScore) -> pd.DataFrame:
    """Scores of each clip of an evaluation, with the totals by one formula, so that runs with others can be compared.

    Args:
        rows: the evaluation's table.
        formula: the OmniScore. If the run lacks one of its dimensions, the result has no totals.

    Returns:
        One row per clip: prompt_id, sample, and `base_<score>` and `aligned_<score>` for each score.
    """
    rows = rows[~rows.dimension.isin(TOTALS)]
    wide = rows.pivot(index=KEY, columns="dimension", values=list(SIDES))
    wide.columns = ["_".join(pair) for pair in wide.columns.to_flat_index()]
    wide = wide.reset_index()
    totals = ["omniscore", *formula.weighted_pillars]
    for side in SIDES:
        columns = {f"{side}_{name}": f"raw_{name}" for name in formula.dimensions}
        if not columns.keys() <= set(wide.columns):
            return wide.drop(columns=[f"{one}_{name}" for one in SIDES for name in totals], errors="ignore")
        raw = wide[[*KEY, *columns]].rename(columns=columns).dropna()
        found = omniscore(raw.assign(video_id=raw.prompt_id), formula)[totals].set_index(raw.index)
        wide = wide.join(found.add_prefix(f"{side}_"))
    return wide


def _first_missing(folder: Path, last_round: int) -> tuple[str, str | None]:
    """First file that a run lacks, and the log of the jobs that make it: one that failed, or else the newest."""
    for number in range(1, last_round + 1):
        for step, jobs in _STEPS.items():
            file = step.format(round=f"round{number}")
            if (folder / file).exists() or ("evaluation" in step and number < last_round):
                continue
            if "omniscore" in step and (folder / "imported_pairs.parquet").exists():  # such a run scores no pairs
                continue
            logs_folder = f"round{number}/logs" if file.startswith("round") else "logs"
            places = [run / logs_folder / job for run in _makers(folder) for job in jobs]
            logs = [path for place in places for path in (place, *place.rglob("*.log")) if path.is_file()]
            found = max(logs, key=lambda path: (_has_failed(path), path.stat().st_mtime_ns), default=None)
            return file, os.path.relpath(found) if found else None
    return f"round{last_round}/evaluation/summary.json", None


def _makers(folder: Path) -> set[Path]:
    """Folders of the run and of the runs that its links point to."""
    return {folder.resolve()} | {run_of(path).resolve() for path in folder.rglob("*") if path.is_symlink()}


def _has_failed(log: Path) -> bool:
    """True if the last try in a log ended with an error; a killed job logs none."""
    last = log.read_text(encoding="utf-8", errors="replace").rpartition(" started on ")[2]
    return any(line.startswith(("videodpo ", "Traceback ")) for line in last.splitlines()[1:])
