"""Snakemake's plugin for SLURM: how it asks for the state of jobs, and nodes that it excludes.

Works with snakemake-executor-plugin-slurm 2.8.0. Nothing here imports it: it is loaded or not.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from typing import Any

from videodpo.config.errors import RunError

_PATIENCE = 60  # seconds, as the plugin has it


def prepare() -> None:
    """Make the plugin, where it is loaded, check its status command and leave lost nodes to SLURM.

    Public API would be settings of the plugin.
    """
    plugin: Any = sys.modules.get("snakemake_executor_plugin_slurm")
    if plugin:
        plugin.Executor.__post_init__ = _prepared(plugin, plugin.Executor.__post_init__)
        plugin.query_job_status = _keeping_jobs(plugin.query_job_status)


def _prepared(plugin: Any, post_init: Any) -> Any:
    def __post_init__(self: Any, *args: Any, **kwargs: Any) -> None:
        post_init(self, *args, **kwargs)
        settings = self.workflow.executor_settings
        try:
            sacct, min_job_age = plugin.query_job_status_sacct("none"), plugin.get_min_job_age()
            _choose_status_command(settings, sacct, min_job_age, self.logger)
        except RunError as error:
            raise plugin.WorkflowError(str(error)) from None
        if settings.requeue and hasattr(self, "_failed_nodes"):
            self._failed_nodes = _Fixed(self._failed_nodes)

    return __post_init__


class _Fixed(set[str]):
    """Nodes to exclude: those that the user names, and no others.

    The plugin asks for the nodes of a failed job. It may ask when a requeued job has none, take the answer `None
    assigned` for a node, and fail at each further `sbatch`; or it asks a moment later, and excludes the good nodes of
    the job's next start. SLURM gives no job to a node that is down.
    """

    def add(self, _: str) -> None:
        """Do nothing: the node is one that the plugin wrongly believes to have failed."""


def _choose_status_command(settings: Any, sacct: str, min_job_age: int | None, logger: Any) -> None:
    """Set `squeue` where `sacct` does not answer: the plugin looks only whether the program is installed.

    Args:
        sacct: the plugin's own query. min_job_age: seconds for which squeue shows a finished job; None if unknown.

    Raises:
        RunError: squeue would forget jobs before the plugin asks for them.
    """
    if not (problem := _problem(sacct)):
        return
    needed = 3 * settings.init_seconds_before_status_checks
    if min_job_age is None or min_job_age < needed:
        shown = "an unknown time (scontrol show config)" if min_job_age is None else f"{min_job_age} s (MinJobAge)"
        raise RunError(
            f"no way to learn how jobs end: sacct does not answer ({problem}), and squeue shows a finished job for "
            f"{shown}, at least {needed} s are needed; ask the site for job accounting or MinJobAge=300"
        )
    logger.warning(f"sacct does not answer ({problem}): the state of jobs is asked of squeue.")
    settings.status_command = "squeue"


def _problem(query: str) -> str | None:
    """Why a query has no answer; None if it has one, or the program is missing: the plugin then uses squeue."""
    command = shlex.split(query)
    if not shutil.which(command[0]):
        return None
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"nothing within {_PATIENCE} s"
    # Some versions say so and exit with 0.
    if answer.returncode or "disabled" in answer.stderr:
        return " ".join(answer.stderr.split()) or f"exit code {answer.returncode}"
    return None


def _keeping_jobs(query: Any) -> Any:
    """The plugin's query, with "no job is known" for its answer where it fails.

    Of a failure the plugin makes an empty list of active jobs: then nobody asks for them again, and Snakemake waits
    for them forever, also after SIGTERM. A job that is not known stays active.
    """

    async def query_job_status(command: str, logger: Any) -> tuple[dict[str, str], float]:
        states, seconds = await query(command, logger)
        if states is None:
            logger.warning(f"The state of the jobs is not known, as this failed; it is asked again soon: {command}")
            return {}, 0.0
        return states, seconds

    return query_job_status
