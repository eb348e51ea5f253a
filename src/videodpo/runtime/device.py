"""Translate the configuration's device name to a torch device name."""

from __future__ import annotations

import gc
import logging
import os
import socket
from functools import cache

from videodpo.config.errors import InputError

log = logging.getLogger(__name__)


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
        InputError: the name asks for CUDA and there is no CUDA GPU.
    """
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device: {name!r}, but this machine has no CUDA GPU; use auto or cpu")
    device = name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    log.info("device %s on %s; CUDA_VISIBLE_DEVICES %s", device, socket.gethostname(), seen)
    return device
