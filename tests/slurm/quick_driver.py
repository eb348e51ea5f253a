"""Run Snakemake's command with a query of the queue every two seconds.

The plugin waits ten seconds longer after each query in which no job has ended. A chain of short jobs would
mostly wait.
"""

from __future__ import annotations

from typing import Any

import snakemake_executor_plugin_slurm as plugin
from snakemake.cli import main

SECONDS = 2.0


class _Steady:
    """Attribute of the executor that keeps its value."""

    def __get__(self, executor: Any, kind: type) -> float:
        return SECONDS

    def __set__(self, executor: Any, value: float) -> None:
        """Ignore the longer wait."""


plugin.Executor.next_seconds_between_status_checks = _Steady()

if __name__ == "__main__":
    main()
