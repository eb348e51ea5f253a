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
    rounds = [folder for folder in run_folder.glob("round*") if folder.name[5:].isdigit()]
    for folder in sorted(rounds, key=lambda folder: int(folder.name[5:]), reverse=True):
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
