"""The configuration's device name to a torch device name."""

from __future__ import annotations

import gc
import logging
import os
import socket
from functools import cache

from videodpo.config.errors import InputError

log = logging.getLogger(__name__)


def release_memory() -> None:
    """Give back what networks held that nothing refers to any more; they have cycles, which only a collection ends."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@cache
def choose_device(name: str) -> str:
    """`auto` is CUDA where there is a GPU, else the CPU; said once in the log.

    Raises:
        InputError: CUDA is asked for and there is none.
    """
    import torch

    if name.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device: {name!r}, but this machine has no CUDA GPU; use auto or cpu")
    device = name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "not set")
    log.info("device %s on %s; CUDA_VISIBLE_DEVICES %s", device, socket.gethostname(), seen)
    return device
