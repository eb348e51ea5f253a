"""Logging of one job: this package's lines and the libraries' warnings, without known noise."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import TextIO

from videodpo.runtime.locks import hold_log

log = logging.getLogger(__name__)

# Library's logger: beginning of a message that says nothing about a run. The first two come from importing torchao,
# which diffusers does if it is installed; docs/models.md explains the third.
_NOISE = {
    "torch.utils._pytree": "%s is an Enum subclass and is now natively supported by torch.compile",
    "diffusers.quantizers.torchao.torchao_quantizer": "Unable to import `torchao` Tensor objects",
    "diffusers.pipelines.pipeline_utils": "The TextToVideoSDPipeline has been deprecated",
    "diffusers.guiders.guider_utils": "Guiders are currently an experimental feature",
}


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`, which writes above the progress bar while one is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def set_up_logs(*, is_stage: bool) -> None:
    """Log to stderr: from INFO for this package, from WARNING for libraries. Call it before importing libraries.

    Args:
        is_stage: the command is a stage, which shows a progress bar of its own if stderr is a terminal.
    """
    logging.basicConfig(
        level=logging.WARNING, handlers=[_StderrHandler()], format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("videodpo").setLevel(logging.INFO)
    for name, beginning in _NOISE.items():
        logging.getLogger(name).addFilter(partial(_says_more, beginning))
    if is_stage or not sys.stderr.isatty():
        # In a file, a progress bar is one endless line. All these libraries use tqdm.
        os.environ.setdefault("TQDM_DISABLE", "1")


def _says_more(beginning: str, record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(beginning)


def log_start(command: Sequence[str]) -> None:
    """Log that a job starts, so that a log with several tries shows where each try begins, and lock the log.

    Processes started by torch's launcher log nothing, because the process that started the launcher already did.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return
    hold_log()
    job = os.environ.get("SLURM_JOB_ID")
    where = f"{socket.gethostname()}, process {os.getpid()}" + (f", SLURM job {job}" if job else "")
    log.info("started on %s: videodpo %s", where, " ".join(command))
