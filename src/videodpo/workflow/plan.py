"""The jobs of a run, as Snakemake planned them at its last start: `videodpo status` compares them with the disk."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from videodpo.config.errors import InputError
from videodpo.storage.files import read_json, write_json

NAME = "plan.json"


class Job(Protocol):
    """A job of Snakemake's graph, as `runtime.compat.snakemake.Job`."""

    rule: str
    run: str
    outputs: list[str]
    log: str | None
    benchmark: str | None
    will_run: bool


@dataclass(frozen=True)
class PlannedJob:
    """A job, with paths relative to the run's folder.

    Attributes:
        outputs: its files and folders.
        log: None for a job without a log, as is the next.
        benchmark: table of its time and memory.
        before: for a job that has to run, the times of the outputs that existed at the start, in nanoseconds; the job
            replaces them. Empty for other jobs.
    """

    rule: str
    outputs: list[str]
    log: str | None
    benchmark: str | None
    before: dict[str, int]

    @property
    def stage(self) -> str:
        """Name of the rule, after the round, if the job belongs to one."""
        return f"round{self.round} {self.rule}" if self.round else self.rule

    @property
    def round(self) -> int:
        """The round; 0 for a job of the entire run."""
        found = re.match(r"round(\d+)/", self.outputs[0])
        return int(found[1]) if found else 0

    @property
    def name(self) -> str:
        """Name of the stage and what distinguishes its jobs: the arm, dimension, shard or settings."""
        log = Path(self.log or "").with_suffix("")
        parts = log.parts[log.parts.index(self.rule) + 1 :] if self.rule in log.parts else ()
        return " ".join([self.stage, *parts])

    def is_done(self, run: Path) -> bool:
        """True if all outputs exist, and none is the one that the job has to replace."""
        return all(
            (found := _changed_at(run / output)) is not None and found != self.before.get(output)
            for output in self.outputs
        )


def write_plan(folder: Path, jobs: Iterable[Job]) -> None:
    """Write the plan of a run, before its first job starts.

    Args:
        folder: of the run; jobs without an output in it belong to none of its stages and are left out.
    """

    def inside(path: str) -> str:
        return Path(path).relative_to(folder).as_posix()

    planned = []
    for job in jobs:
        if not job.outputs or not all(Path(output).is_relative_to(folder) for output in job.outputs):
            continue
        outputs = [inside(output) for output in job.outputs]
        times = {output: _changed_at(folder / output) for output in outputs if job.will_run}
        before = {output: time for output, time in times.items() if time is not None}
        log, benchmark = job.log and inside(job.log), job.benchmark and inside(job.benchmark)
        planned.append(PlannedJob(job.rule, outputs, log, benchmark, before))
    planned.sort(key=lambda job: job.round)  # keeps the order within a round
    write_json(folder / NAME, {"jobs": [asdict(job) for job in planned]})


def read_plan(folder: Path) -> list[PlannedJob]:
    """Read the plan of a run's last start.

    Raises:
        InputError: not the folder of a run, or Snakemake has not started it.
    """
    if not (folder / "config").is_dir():
        raise InputError(f"{folder}: not a run's folder (no config folder); give <results>/<run>")
    if not (folder / NAME).is_file():
        raise InputError(
            f"{folder}: no {NAME}, which Snakemake writes at each start; stages that are run one by one have no plan"
        )
    return [PlannedJob(**job) for job in read_json(folder / NAME)["jobs"]]


def _changed_at(path: Path) -> int | None:
    """Time of the last change of a file or folder, in nanoseconds; None if it does not exist."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
