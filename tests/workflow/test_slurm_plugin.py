"""The plug-in for SLURM, as it is installed, excludes no node by itself where SLURM queues jobs again."""

from __future__ import annotations

import atexit
import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import snakemake_executor_plugin_slurm as plugin

from videodpo.workflow.slurm_plugin import leave_to_slurm


@pytest.mark.parametrize(("requeue", "excluded"), [(True, {"n7"}), (False, {"n7", "n3"})])
def test_nodes_of_failed_jobs_are_excluded_only_where_slurm_does_not_queue_them_again(
    requeue: bool, excluded: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugin.Executor, "__post_init__", plugin.Executor.__post_init__)
    monkeypatch.setattr(atexit, "register", lambda _: None)  # it would clean up after a workflow
    leave_to_slurm()
    executor = plugin.Executor.__new__(plugin.Executor)
    executor.logger = logging.getLogger("test")
    settings = plugin.ExecutorSettings(requeue=requeue, exclude_failed_nodes="n7", logdir=tmp_path)
    executor.workflow = SimpleNamespace(executor_settings=settings)
    executor.__post_init__()
    executor._failed_nodes.add("n3")
    assert executor._failed_nodes == excluded
