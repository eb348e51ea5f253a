"""Snakemake's internals: jobs of its graph, and nodes that its plugin for SLURM excludes.

Works with snakemake 9.27.1 and snakemake-executor-plugin-slurm 2.8.0. Nothing here imports either: the Snakefile passes
its `workflow`, and the plugin is loaded or not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any


def rules_to_run(workflow: Any) -> set[str]:
    """Names of the rules with a job to run. Public API would be the list of planned jobs in `onstart`."""
    return {job.rule.name for job in workflow.dag.needrun_jobs()}


def kept_snapshots(workflow: Any) -> set[str]:
    """Names of the settings snapshots that no job is going to write. Public API would be as for `rules_to_run`."""
    dag = workflow.dag
    return {job.wildcards.snapshot for job in dag.jobs if job.rule.name == "snapshot" and not dag.needrun(job)}


def missing_targets(workflow: Any) -> list[str]:
    """Files that were asked for and are not there. Public API would be the list of targets in `onsuccess`."""
    if workflow.touch:
        return []
    wanted = [file for job in workflow.dag.targetjobs for file in (job.output or job.input)]
    return [str(file) for file in wanted if not Path(file).exists()]


def leave_to_slurm() -> None:
    """Stop the SLURM plugin from excluding nodes when SLURM requeues a job.

    The plugin asks for the nodes of a failed job. It may ask when the job has none, take the answer `None assigned` for
    a node, and fail at each further `sbatch`; or it asks a moment later, and excludes the good nodes of the job's next
    start. SLURM gives no job to a node that is down. Nodes that the user excludes stay excluded, and without
    requeueing nothing changes. Public API would be a setting of the plugin.
    """
    if plugin := sys.modules.get("snakemake_executor_plugin_slurm"):
        plugin.Executor.__post_init__ = _without_exclusion(plugin.Executor.__post_init__)


def _without_exclusion(post_init: Any) -> Any:
    def __post_init__(self: Any, *args: Any, **kwargs: Any) -> None:
        post_init(self, *args, **kwargs)
        if self.workflow.executor_settings.requeue and hasattr(self, "_failed_nodes"):
            self._failed_nodes = _Fixed(self._failed_nodes)

    return __post_init__


class _Fixed(set[str]):
    def add(self, _: str) -> None:
        """Do nothing: the node is one that the plugin wrongly believes to have failed."""
