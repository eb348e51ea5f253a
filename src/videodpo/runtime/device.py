"""Translate the configuration's device name to a torch device name."""

from __future__ import annotations

import gc
import logging
import os
import socket
from functools import cache
from pathlib import Path

from videodpo.config.errors import InputError
from videodpo.runtime.gpus import visible_gpus

log = logging.getLogger(__name__)

_DRIVER = Path("/proc/driver/nvidia/version")  # exists while the kernel has NVIDIA's driver


def release_memory() -> None:
    """Free the memory of networks that are no longer referenced.

    Networks contain reference cycles, so only a garbage collection frees them.
    """
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@cache
def choose_device(name: str) -> str:
    """Resolve a device name and log the result once. `auto` is CUDA if there is a GPU, otherwise the CPU.

    Raises:
        InputError: the name asks for CUDA and there is no CUDA GPU; or there is one that torch cannot use, for example
            because its driver is too old: `auto` must not sample for hours on the CPU of a GPU node.
    """
    import torch

    if name != "cpu" and not torch.cuda.is_available():
        if _DRIVER.exists() and visible_gpus(os.environ):
            raise InputError(
                f"device: {name!r}, but torch cannot use the GPU of {socket.gethostname()} ({_cuda_error()}); update "
                "the NVIDIA driver, or set device: cpu"
            )
        if name != "auto":
            raise InputError(f"device: {name!r}, but this machine has no CUDA GPU; use auto or cpu")
    device = name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    log.info("device %s on %s; CUDA_VISIBLE_DEVICES %s", device, socket.gethostname(), seen)
    return device


def _cuda_error() -> str:
    """torch's reason for not using a GPU."""
    import torch

    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        return str(error).partition(". ")[0]
    return f"torch {torch.__version__}"
