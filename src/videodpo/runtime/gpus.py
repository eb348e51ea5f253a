"""Reserve GPUs of this machine for one job, so that concurrent jobs use different ones.

A reservation is a file lock. The kernel drops it when the job ends, for whatever reason. All jobs of one user on one
machine share the folder of lock files.
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
RESERVED = "VIDEODPO_GPUS"  # GPUs that a job has reserved; its child processes inherit the variable
_POLL_SECONDS = 1.0
_LOG_SECONDS = 60.0


def reserve_gpus(device: str, count: int, environment: MutableMapping[str, str] = os.environ) -> None:
    """Reserve `count` GPUs and set CUDA_VISIBLE_DEVICES to them; wait until that many are free.

    Call this before torch is imported, because CUDA reads the variable only once. Nothing is reserved if there is no
    choice: on the CPU, on a machine with one GPU, or if CUDA_VISIBLE_DEVICES already names `count` GPUs, as in a SLURM
    job.

    Args:
        device: the configuration's `device`.
        count: GPUs that the job needs.
        environment: environment variables to read and to set.
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
    """UUID of each GPU that a job may use, by its name in CUDA_VISIBLE_DEVICES.

    The list ends before its first entry that names no GPU, as in CUDA.
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
    """UUIDs of all NVIDIA GPUs, in the driver's order; empty without an NVIDIA driver."""
    if not (program := shutil.which("nvidia-smi")):
        return []
    command = [program, "--query-gpu=uuid", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:  # the driver is installed, but no GPU answers
        log.warning("nvidia-smi failed, so no GPU is reserved: %s", " ".join((answer.stdout + answer.stderr).split()))
        return []
    return answer.stdout.split()


def _wait_for(gpus: Mapping[str, str], count: int) -> list[str]:
    logged = time.monotonic() - _LOG_SECONDS
    while not (chosen := _free(gpus, count)):
        if time.monotonic() - logged >= _LOG_SECONDS:
            log.info("waiting until %d of the GPUs %s are free", count, ", ".join(gpus))
            logged = time.monotonic()
        time.sleep(_POLL_SECONDS)
    return chosen


def _free(gpus: Mapping[str, str], count: int) -> list[str]:
    """Lock the first `count` free GPUs, or none of them, so that no two jobs wait for each other."""
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
    """Lock a file.

    Returns:
        A handle that stays open until the process ends, also through `exec`; None if another job holds the lock.
    """
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
