"""Show what is done, running, failed and left of a run, from what is on the disk: plan, products, locks and logs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Literal, TypeAlias

from videodpo.runtime.countdown import Logged, read_line
from videodpo.runtime.giving_up import has_given_up
from videodpo.runtime.locks import driver, is_held
from videodpo.storage.files import printable
from videodpo.workflow.plan import NAME, PlannedJob, read_plan

State: TypeAlias = Literal["done", "running", "failed", "stopped", "waiting"]
_TAIL = 2**16  # bytes of a log's end that are read
_MOST_REASONS = 10  # printed without --shards
_MESSAGE = 4  # lines of an error that are printed
_TRY = " started on "  # in the first line of each try
_PROCESS = re.compile(r"(?P<where>\S+, process \d+(, SLURM job \S+)?): videodpo ")
_STOPPED = ("the state is saved; start again to resume", "stopped by Ctrl-C")
_ERROR = re.compile(r"videodpo [a-z-]+: (?P<error>.+)")


@dataclass(frozen=True)
class JobStatus:
    """State of one job.

    Attributes:
        why: progress of a running job, or the reason why a job failed or stopped; empty for other jobs.
        left: estimated seconds until a running job ends; None if unknown.
    """

    job: PlannedJob
    state: State
    why: str = ""
    left: float | None = None


def status(run: Path, *, shards: bool = False) -> str:
    """Describe the state of a run.

    Args:
        run: its folder.
        shards: also list every job.

    Raises:
        InputError: not the folder of a run, or Snakemake has not started it.
    """
    found = [_look(run, job) for job in read_plan(run)]
    if not found:
        return f"{run}: has no jobs of its own"
    num_done, num_running = (sum(one.state == state for one in found) for state in ("done", "running"))
    holder = driver(run)
    what = f"Snakemake runs ({holder})" if holder else "Snakemake does not run"
    lines = [f"{run}: {num_done} of {len(found)} jobs are done; {what}", ""]
    stages = [
        _Stage(name, list(jobs), _mean_seconds(run, name.rpartition(" ")[2]), max(1, num_running))
        for name, jobs in groupby(found, key=lambda one: one.job.stage)
    ]
    lines += _table(stages)
    if shards:
        width = max(len(one.job.name) for one in found)
        lines += ["", *(f"{one.job.name:{width}}  {one.state:7}  {one.why}".rstrip() for one in found)]
    ended = [one for one in found if one.state in ("failed", "stopped")]
    for one in ended[:_MOST_REASONS]:
        lines += ["", f"{one.state}: {one.job.name}: {one.why}", f"  log: {run / (one.job.log or '')}"]
    if len(ended) > _MOST_REASONS:
        lines += ["", f"and {len(ended) - _MOST_REASONS} other failed or stopped jobs; --shards lists all"]
    return "\n".join([*lines, "", _end(stages, max(1, num_running), is_driven=holder is not None)])


def _look(run: Path, job: PlannedJob) -> JobStatus:
    log = run / (job.log or "")
    if job.is_done(run):
        return JobStatus(job, "done")
    if not log.is_file():
        return JobStatus(job, "waiting")
    if is_held(log):  # by the job itself
        return _running(job, log)
    # A log from before the last start says nothing about the planned job.
    lines = _last_try(log) if log.stat().st_mtime >= (run / NAME).stat().st_mtime else []
    if not lines:
        return JobStatus(job, "waiting")
    return _ended(job, lines, gave_up=has_given_up(run / f"round{job.round}", job.rule))


def _running(job: PlannedJob, log: Path) -> JobStatus:
    lines = _last_try(log)
    process = lines and _PROCESS.match(lines[0])
    where = f" ({process['where']})" if process else ""
    logged: Logged | None = next(filter(None, map(read_line, reversed(lines))), None)
    if logged is None:
        return JobStatus(job, "running", f"started{where}")
    left = None
    if logged.each is not None:
        left = max(0.0, logged.each * (logged.total - logged.done) - (time.time() - log.stat().st_mtime))
    return JobStatus(job, "running", f"{logged.done} of {logged.total} {logged.unit}{where}", left)


def _ended(job: PlannedJob, lines: Sequence[str], *, gave_up: bool) -> JobStatus:
    """State of a job whose last try has ended without its outputs."""
    for place, line in enumerate(lines):  # the launcher of several processes adds a traceback of its own
        if error := _ERROR.fullmatch(line):
            why = " ".join([error["error"], *map(str.strip, lines[place + 1 : place + _MESSAGE])])
            return JobStatus(job, "stopped" if any(text in why for text in _STOPPED) else "failed", why)
    if gave_up or any(line.startswith("Traceback ") for line in lines):
        return JobStatus(job, "failed", next(line for line in reversed(lines) if line.strip()))
    return JobStatus(job, "stopped", "its log ends without an error: it was killed; the next start resumes it")


def _last_try(log: Path) -> list[str]:
    """Lines of the last try at the end of a log, made printable."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        text = file.read().decode(errors="replace")
    return [printable(line) for line in text.rpartition(_TRY)[2].splitlines()]


@dataclass(frozen=True)
class _Stage:
    """Jobs of one rule in one round.

    Attributes:
        mean: mean seconds of the rule's finished jobs; None if none has finished.
        width: number of jobs that run at the same time.
    """

    name: str
    jobs: list[JobStatus]
    mean: float | None
    width: int

    def count(self, *states: State) -> int:
        return sum(one.state in states for one in self.jobs)

    @property
    def left(self) -> float | None:
        """Estimated seconds until all jobs are done; None if it cannot be estimated yet."""
        each = [self.mean if one.left is None else one.left for one in self.jobs if one.state != "done"]
        known = [seconds for seconds in each if seconds is not None]
        if len(known) < len(each):
            return None
        return max([sum(known) / min(self.width, len(known)), *known]) if known else 0.0


def _table(stages: Sequence[_Stage]) -> Iterator[str]:
    width = max(len(stage.name) for stage in stages)
    yield f"{'stage':{width}}  {'done':>11}  running  failed  remaining  {'mean':>8}  {'to go':>8}"
    for stage in stages:
        done = f"{stage.count('done')} of {len(stage.jobs)}"
        yield (
            f"{stage.name:{width}}  {done:>11}  {stage.count('running'):7}  {stage.count('failed'):6}"
            f"  {stage.count('waiting', 'stopped'):9}  {_clock(stage.mean):>8}  {_clock(stage.left):>8}"
        )


def _end(stages: Sequence[_Stage], width: int, *, is_driven: bool) -> str:
    ahead = [stage for stage in stages if stage.count("done") < len(stage.jobs)]
    if not ahead:
        return "nothing is left to do"
    known = sum(stage.left for stage in ahead if stage.left is not None)
    text = f"about {_clock(known)} to go with {width} job{'s' * (width > 1)} at a time"
    if is_driven:
        text += f", ends {datetime.now() + timedelta(seconds=known):%Y-%m-%d %H:%M}"
    if unknown := [stage.name for stage in ahead if stage.left is None]:
        text += f"; not counted, as none of their jobs has finished yet: {', '.join(unknown)}"
    return text


def _mean_seconds(run: Path, rule: str) -> float | None:
    """Mean seconds of the finished jobs of a rule, over all rounds; None if there is none."""
    seconds = []
    for benchmarks in (run / "benchmarks", *run.glob("round*/benchmarks")):
        for table in (*benchmarks.glob(f"{rule}.tsv"), *(benchmarks / rule).rglob("*.tsv")):
            seconds += [float(row.split("\t")[0]) for row in table.read_text().splitlines()[1:]]
    return sum(seconds) / len(seconds) if seconds else None


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))
