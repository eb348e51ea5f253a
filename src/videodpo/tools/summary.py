"""Show the last evaluation of a run as text."""

from __future__ import annotations

from pathlib import Path

from videodpo.config.errors import InputError
from videodpo.stages.benchmark import format_benchmark
from videodpo.stages.evaluate import format_table
from videodpo.storage.manifests import read_json


def summary(run_folder: Path) -> str:
    """Comparison of base and aligned in the last evaluated round, its benchmark, and the path of its report.

    Raises:
        InputError: no round of the run was evaluated.
    """
    if not (rounds := sorted(run_folder.glob("round*"), key=lambda folder: int(folder.name[5:]), reverse=True)):
        raise InputError(f"{run_folder}: no round<r>/evaluation/summary.json; finish the run first")
    for folder in rounds:
        evaluation, benchmark = (folder / name / "summary.json" for name in ("evaluation", "benchmark"))
        parts = []
        if evaluation.exists():
            parts.append(format_table(read_json(evaluation)))
        if benchmark.exists():
            parts.append(format_benchmark(read_json(benchmark)))
        if parts:
            report = (folder / "report" / "index.html").resolve()
            return "\n".join([*parts, f"\nreport: {report}"] if report.exists() else parts)
    raise InputError(f"{run_folder}: no round<r>/evaluation/summary.json; finish the run first")
