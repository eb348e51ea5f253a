"""Reserves GPUs of this machine for one job, so that jobs that run at the same time get different ones.

A reservation is a lock on a file, which the kernel drops when the job ends in whatever way. All jobs of one user on one
machine share the folder of these files.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, MutableMapping
from pathlib import Path

log = logging.getLogger(__name__)

VISIBLE = "CUDA_VISIBLE_DEVICES"
RESERVED = "VIDEODPO_GPUS"  # what a job has reserved; its own processes inherit it
_POLL_SECONDS = 1.0
_LOG_SECONDS = 60.0


def reserve_gpus(device: str, count: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Reserve `count` GPUs and set CUDA_VISIBLE_DEVICES to them; wait until that many are free.

    Call this before torch is imported: CUDA reads the variable once. Nothing is reserved where there is no choice: on
    the CPU, on a machine with one GPU, and where CUDA_VISIBLE_DEVICES names `count` GPUs already, as in a SLURM job.

    Args:
        device: the configuration's `device`.
    """
    if device == "cpu" or RESERVED in environment:
        return
    gpus = visible_gpus(environment)
    if len(gpus) <= max(1, count if VISIBLE in environment else 0):
        return
    chosen = _wait_for(gpus, min(count, len(gpus)))
    environment[VISIBLE] = environment[RESERVED] = ",".join(chosen)
    environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi numbers them
    log.info("reserved GPU %s of %s", ", ".join(chosen), ", ".join(gpus))


def visible_gpus(environment: Mapping[str, str]) -> dict[str, str]:
    """GPUs that a job may use, as CUDA_VISIBLE_DEVICES names them, and the UUID of each.

    As CUDA does, the list is read up to its first entry that names no GPU.
    """
    uuids = _uuids()
    if VISIBLE not in environment:
        return {str(index): uuid for index, uuid in enumerate(uuids)}
    found: dict[str, str] = {}
    for name in map(str.strip, environment[VISIBLE].split(",")):
        if name.startswith("MIG-"):
            found[name] = name
        elif name.isdecimal() and int(name) < len(uuids):
            found[name] = uuids[int(name)]
        elif name.startswith("GPU-") and (matches := [uuid for uuid in uuids if uuid.startswith(name)]):
            found[name] = matches[0]
        else:
            break
    return found


def _uuids() -> list[str]:
    """UUIDs of all NVIDIA GPUs, in the driver's order; empty where there is no NVIDIA driver."""
    if not (program := shutil.which("nvidia-smi")):
        return []
    command = [program, "--query-gpu=uuid", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:  # the driver is installed and no GPU answers
        log.warning("nvidia-smi failed, so no GPU is reserved: %s", " ".join((answer.stdout + answer.stderr).split()))
        return []
    return answer.stdout.split()


def _wait_for(gpus: Mapping[str, str], count: int) -> list[str]:
    logged = time.monotonic() - _LOG_SECONDS
    while not (chosen := _free(gpus, count)):
        if time.monotonic() - logged >= _LOG_SECONDS:
            log.info("waiting for %d free of the GPUs %s; other jobs hold the rest", count, ", ".join(gpus))
            logged = time.monotonic()
        time.sleep(_POLL_SECONDS)
    return chosen


def _free(gpus: Mapping[str, str], count: int) -> list[str]:
    """Lock `count` GPUs, the first that are free; or none of them, so that no two jobs wait for each other."""
    folder = _folder()
    turn = os.open(folder / "choosing.lock", os.O_RDWR | os.O_CREAT, 0o600)
    held: dict[str, int] = {}
    try:
        fcntl.flock(turn, fcntl.LOCK_EX)
        for name, uuid in gpus.items():
            if len(held) < count and (handle := _lock(folder / f"{uuid}.lock")) is not None:
                held[name] = handle
        if len(held) == count:
            return list(held)
        for handle in held.values():
            os.close(handle)
        return []
    finally:
        os.close(turn)


def _lock(path: Path) -> int | None:
    """A handle that stays open until the process ends, also through `exec`; None if another job has the lock."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    os.set_inheritable(handle, True)
    return handle


def _folder() -> Path:
    folder = Path(tempfile.gettempdir()) / f"videodpo-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
