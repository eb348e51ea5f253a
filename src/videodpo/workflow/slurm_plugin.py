"""Keeps Snakemake's plug-in for SLURM from excluding nodes: which are down is SLURM's to know."""

from __future__ import annotations

import sys
from typing import Any


def leave_to_slurm() -> None:
    """Keep the plug-in, where it is loaded, from excluding nodes because a job that SLURM queues again has failed.

    It asks for the job's nodes when the job has none any more, takes the answer `None assigned` for a node, and each
    further `sbatch` fails (2.8.0); or it asks a moment later, and excludes the good nodes of the job's next start.
    SLURM gives no job to a node that is down. What the user excludes stays, and so does the rest without requeueing.
    """
    if plugin := sys.modules.get("snakemake_executor_plugin_slurm"):
        plugin.Executor.__post_init__ = _keeping(plugin.Executor.__post_init__)


def _keeping(post_init: Any) -> Any:
    def __post_init__(self: Any, *args: Any, **kwargs: Any) -> None:
        post_init(self, *args, **kwargs)
        if self.workflow.executor_settings.requeue and hasattr(self, "_failed_nodes"):
            self._failed_nodes = _Kept(self._failed_nodes)

    return __post_init__


class _Kept(set[str]):
    def add(self, _: str) -> None:
        """Nothing: the plug-in means a node of which it believes that it failed."""
