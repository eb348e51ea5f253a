"""A study of three arms on the very small run, in a folder for calls of the real Snakemake."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import small_run
from tests.support.workspace import Job, dry_run, make_workspace, snakemake, without_default_scorers

STUDY: dict[str, Any] = {
    "name": "tiny",
    "seeds": [3],
    "arms": {
        "dpo": {"about": "the base itself"},
        "plain": {"about": "no re-weighting", "overlay": {"pairs": {"reweight": {"exponent": 0.0}}}},
        "sft": {"about": "winners only", "overlay": {"train": {"objective": {"loss": "sft"}}}},
    },
    "findings": [
        {"claim": "Alignment raises the OmniScore", "arm": "dpo", "paper": "80.44 to 81.93"},
        {"claim": "Re-weighting beats none", "arm": "dpo", "against": "plain", "score": "quality"},
        {"claim": "DPO beats fine-tuning on winners", "arm": "dpo", "against": "sft"},
    ],
}
BROKEN = {"train": {"learning_rate": 1.0e30, "max_skipped_steps": 0}}  # overlay of an arm whose fine-tune fails
CALL = ("study", "--configfile", "overlay.yaml", "--config", "study=study.yaml")
OF_THE_PROFILES = ("--nolock", "--ignore-incomplete")


def make_study(folder: Path, model: Path, **changes: Any) -> Path:
    """Make the workspace of a study; `changes` replace keys of `STUDY`."""
    make_workspace(folder, without_default_scorers(small_run(model, Path("results"))))
    write_study(folder, **changes)
    return folder


def write_study(folder: Path, **changes: Any) -> None:
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY | changes, sort_keys=False), encoding="utf-8")


def with_arm(name: str, **overlay: Any) -> dict[str, Any]:
    """Arms of `STUDY`, with another overlay for one of them, or with an additional arm."""
    return STUDY["arms"] | {name: {"about": "changed", "overlay": overlay}}


def planned(folder: Path) -> list[Job]:
    """Jobs that a call of Snakemake would run."""
    return [job for job in dry_run(folder, *CALL) if job.rule not in ("all", "snapshot")]


def run_study(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return snakemake(folder, "--cores", "2", *OF_THE_PROFILES, *CALL, *arguments)


def runs_of(jobs: list[Job], rule: str) -> list[str]:
    """Runs of a rule's jobs, sorted, one entry per job."""
    return sorted(job.wildcards["run"] for job in jobs if job.rule == rule)
