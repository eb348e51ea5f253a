"""Changes to Snakemake's SLURM plugin: how it queries the state of jobs, and which nodes it excludes.

Works with snakemake-executor-plugin-slurm 2.8.0. This module does not import the plugin, which may not be loaded.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from typing import Any

from videodpo.config.errors import RunError

_PATIENCE = 60  # seconds, as in the plugin


def prepare() -> None:
    """Make the plugin, if it is loaded, check its status command and leave lost nodes to SLURM.

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
    """Nodes to exclude: only those that the user names.

    The plugin asks SLURM for the nodes of a failed job. If a requeued job has none at that moment, the plugin parses
    the answer `None assigned` as the name of a node, and each later `sbatch` fails. If it asks slightly later, it
    excludes the good nodes of the job's next start. Nodes need not be excluded: SLURM assigns no job to a node that is
    down.
    """

    def add(self, _: str) -> None:
        """Ignore the node, which may be a good one."""


def _choose_status_command(settings: Any, sacct: str, min_job_age: int | None, logger: Any) -> None:
    """Use `squeue` if `sacct` does not answer: the plugin only checks whether the program is installed.

    Args:
        sacct: query command of the plugin.
        min_job_age: seconds for which squeue shows a finished job; None if unknown.

    Raises:
        RunError: squeue would drop jobs before the plugin asks for them.
    """
    if not (problem := _problem(sacct)):
        return
    needed = 3 * settings.init_seconds_before_status_checks
    if min_job_age is None or min_job_age < needed:
        shown = "an unknown time (scontrol show config)" if min_job_age is None else f"{min_job_age} s (MinJobAge)"
        raise RunError(
            f"the state of finished jobs cannot be queried: sacct fails ({problem}), and squeue shows them for "
            f"{shown}; at least {needed} s are needed. Ask the site for job accounting or MinJobAge=300"
        )
    logger.warning(f"sacct fails ({problem}); job states are queried from squeue.")
    settings.status_command = "squeue"


def _problem(query: str) -> str | None:
    """Reason why a query fails; None if it succeeds.

    None as well if the program is missing, because the plugin then uses squeue.
    """
    command = shlex.split(query)
    if not shutil.which(command[0]):
        return None
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return f"no answer within {_PATIENCE} s"
    # Some versions print "disabled" and exit with 0.
    if answer.returncode or "disabled" in answer.stderr:
        return " ".join(answer.stderr.split()) or f"exit code {answer.returncode}"
    return None


def _keeping_jobs(query: Any) -> Any:
    """Wrap the plugin's query: if it fails, answer that the state of no job is known.

    After a failed query, the plugin empties its list of active jobs. Then nothing asks for them again, and Snakemake
    waits for them forever, even after SIGTERM. A job whose state is unknown stays active.
    """

    async def query_job_status(command: str, logger: Any) -> tuple[dict[str, str], float]:
        states, seconds = await query(command, logger)
        if states is None:
            logger.warning(f"Job states are unknown, because this command failed; it is retried soon: {command}")
            return {}, 0.0
        return states, seconds

    return query_job_status
