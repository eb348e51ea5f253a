"""Show the last evaluation of a run as text."""

from __future__ import annotations

from pathlib import Path

from videodpo.config.errors import InputError
from videodpo.stages.evaluate import format_table
from videodpo.storage.manifests import read_json


def summary(run_folder: Path) -> str:
    """Comparison of base and aligned in the last evaluated round, and the path of its report.

    Raises:
        InputError: no round of the run was evaluated.
    """
    rounds = sorted(run_folder.glob("round*/evaluation/summary.json"), key=lambda p: int(p.parts[-3][5:]))
    if not rounds:
        raise InputError(f"{run_folder}: no round<r>/evaluation/summary.json; finish the run first")
    report = (rounds[-1].parents[1] / "report" / "index.html").resolve()
    return f"{format_table(read_json(rounds[-1]))}\n\nreport: {report}"
