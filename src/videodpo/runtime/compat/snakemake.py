"""Internals of Snakemake: the jobs of its graph, what it prints about them, its rate limit, and the logs it deletes.

Works with snakemake 9.27.1. This module does not import Snakemake: the Snakefile passes its `workflow`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

_SHOWN = 3


class Job(NamedTuple):
    """A job of the graph.

    Attributes:
        run: value of the wildcard `run`; empty for a job without it.
        outputs: its files and folders.
        log: its log; None for a job without one.
        benchmark: its time and memory; None for a job without a benchmark.
        will_run: false if its outputs are up to date.
    """

    rule: str
    run: str
    outputs: list[str]
    log: str | None
    benchmark: str | None
    will_run: bool


def own_name(rule: Any, folder: str) -> str | None:
    """Name of a rule in our Snakefile; None for a rule of another workflow that uses ours as a module.

    That workflow may rename our rules. It reads our Snakefile again for each rule that it changes, so the rules of one
    run may have several sets of globals. Public API would be a rule's original name and its module.

    Args:
        folder: value of FOLDER in our Snakefile.
    """
    function = rule.run_func
    name = function.__code__.co_name.removeprefix("__rule_")  # Snakemake overwrites __name__
    return name if function.__globals__.get("FOLDER") == folder else None


def all_jobs(workflow: Any, folder: str) -> list[Job]:
    """All jobs of our rules, in the order of the rules and of their outputs.

    Public API would be the list of planned jobs in `onstart`.
    """
    dag, order = workflow.dag, {rule.name: place for place, rule in enumerate(workflow.rules)}
    return [
        Job(
            name,
            _run(job),
            [str(file) for file in job.output],
            next(map(str, job.log), None),
            str(job.benchmark) if job.benchmark else None,
            dag.needrun(job),
        )
        for job in sorted(dag.jobs, key=lambda job: (order[job.rule.name], list(job.output)))
        if (name := own_name(job.rule, folder))
    ]


def kept_snapshots(workflow: Any, folder: str) -> dict[str, set[str]]:
    """Names of the settings snapshots that no job will write, by run. Public API would be as for `all_jobs`."""
    dag, kept = workflow.dag, defaultdict[str, set[str]](set)
    for job in dag.jobs:
        if own_name(job.rule, folder) == "snapshot" and not dag.needrun(job):
            kept[_run(job)].add(job.wildcards.snapshot)
    return kept


def moves(workflow: Any, path: str) -> bool:
    """True if the workflow that uses ours as a module changes this path. Public API would be the module's prefix."""
    return bool(workflow.modifier.path_modifier.replace_prefix(path) != path)


def _run(job: Any) -> str:
    return str((job.wildcards_dict or {}).get("run", ""))


def keep_going(workflow: Any) -> None:
    """Let independent jobs continue after a failure (--keep-going). Public API would be a setting of a workflow."""
    workflow.scheduler.keepgoing = True


def missing_targets(workflow: Any) -> list[str]:
    """Requested files that do not exist. Public API would be the list of targets in `onsuccess`."""
    if workflow.touch:
        return []
    wanted = [file for job in workflow.dag.targetjobs for file in (job.output or job.input)]
    return [str(file) for file in wanted if not Path(file).exists()]


def keep_logs() -> None:
    """Stop Snakemake from deleting a job's log before the job runs, so that a retry appends to the log.

    Public API would be a setting, or a flag for a rule's log like `update` for an output.
    """
    job = sys.modules["snakemake.jobs"].Job
    job.remove_existing_output = _without_logs(job.remove_existing_output)


def _without_logs(remove: Any) -> Any:
    async def remove_existing_output(self: Any) -> None:
        log = self.log
        self._log = []
        try:
            await remove(self)
        finally:
            self._log = log

    return remove_existing_output


def shorten_lists() -> None:
    """Let Snakemake print the first three files of a long list, and count the others.

    Otherwise a dry run prints all 600 inputs of a job twice, the second time as the reason for the job. Public API
    would be a setting.
    """
    jobs: Any = sys.modules["snakemake.jobs"]
    jobs.format_files = _first(jobs.format_files)


def _first(format_files: Any) -> Any:
    def first(files: Any, **options: Any) -> list[str]:
        ordered = sorted(files) if isinstance(files, set) else files  # the files of a reason are a set
        texts: list[str] = format_files(ordered, **options)
        others = len(texts) - _SHOWN
        return texts if others < 2 else [*texts[:_SHOWN], f"and {others} other files"]

    return first


def drop_default_rate_limit(workflow: Any) -> None:
    """Start jobs without Snakemake's default limit of 100 per second; another `--max-jobs-per-timespan` stays.

    With a limit, each finished job leaves a timer that wakes the scheduler once per timespan until the end. After some
    hundred jobs, the idle scheduler would keep a core busy. Call this in `onstart`: the limit does not exist before.
    Public API would be a value for "no limit".
    """
    limiter = workflow.scheduler.job_rate_limiter
    if limiter and (limiter.max_jobs, limiter.timespan) == (100, 1):
        workflow.scheduler.job_rate_limiter = None


def retry_unless(given_up: Callable[[str, Mapping[str, str]], bool], folder: str) -> None:
    """Prevent useless retries of failed jobs. Public API would be an exit code that means "do not retry".

    Args:
        given_up: called with the rule and wildcards of a failed job; returns True if a retry would fail again.
        folder: as for `own_name`; jobs of other workflows keep their retries.
    """
    job: Any = sys.modules["snakemake.jobs"].Job
    retries = job.restart_times

    def restart_times(self: Any) -> Any:
        name = own_name(self.rule, folder)
        return 0 if name and given_up(name, self.wildcards_dict) else retries.fget(self)

    job.restart_times = property(restart_times)
