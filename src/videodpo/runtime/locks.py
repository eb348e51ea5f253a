"""Keep concurrent writers apart: one lock file per output, and one for the driver of a run.

The kernel drops a lock when its holder dies, so a killed job never blocks the next one. Across nodes, this needs a file
system that supports `flock` (NFS does; Lustre does if it is mounted with `flock`).
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import functools
import logging
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from videodpo.config.errors import RunError

log = logging.getLogger(__name__)

_STDERR = 2  # the file descriptor
_DRIVER = "driver.lock"
_GLANCE = 1.0  # seconds to wait in any case: a process that only checks whether a lock is held takes it for a moment
# Seconds to wait in a SLURM job. The holder is most likely an earlier try of the same job, which ends after KillWait
# (30 s by default). An NFS server releases the locks of a lost node after its lease (90 s by default), or after the
# grace period of a restart.
_LEASE = 240.0


class _InRun(Protocol):
    @property
    def folder(self) -> Path: ...


F = TypeVar("F", bound=_InRun)
T = TypeVar("T")


class Held(RunError):
    """Another process holds the lock; the message names its process id, its host and the time it took the lock."""


@contextmanager
def exclusive(folder: Path, output: Path) -> Iterator[None]:
    """Hold the lock for writing `output`.

    Args:
        folder: folder of the run.
        output: a file or folder in it.

    Raises:
        Held: another process is writing it.
    """
    name = "-".join(output.relative_to(folder).parts)
    handle = _take(_locks(folder) / f"{name}.lock")
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def in_turn(folder: Path, name: str) -> Iterator[None]:
    """Wait for a lock of the run and hold it: for short work that several jobs need, but only one has to do."""
    path = _locks(folder) / f"{name}.lock"
    handle = _open(path)
    try:
        while not _locked(handle, path, fcntl.LOCK_EX):
            time.sleep(_GLANCE / 20)
        yield
    finally:
        os.close(handle)


def writes(name: str) -> Callable[[Callable[[F, Path], T]], Callable[[F, Path], T]]:
    """Decorate a stage that writes `name` in a round's folder: it holds the lock of that output while it runs.

    Raises:
        Held: another process is writing the output.
    """

    def marked(stage: Callable[[F, Path], T]) -> Callable[[F, Path], T]:
        @functools.wraps(stage)
        def alone(snapshot: F, round_folder: Path) -> T:
            with exclusive(snapshot.folder, round_folder / name):
                return stage(snapshot, round_folder)

        return alone

    return marked


def take_run(folder: Path) -> None:
    """Become the driver of the run until this process ends.

    Raises:
        Held: another driver is running, or a job of an earlier driver is still running.
    """
    handle = _take(_locks(folder) / _DRIVER)  # stays open: the kernel releases it
    if busy := [line for line in held(folder) if not line.startswith("driver: ")]:
        os.close(handle)
        lines = "\n  ".join(busy)
        raise Held(f"{folder}: jobs of an earlier start still run; wait for them or stop them first:\n  {lines}")


def hold_log() -> None:
    """Lock the file that stderr writes to until this process ends, so that others can tell that its log still grows.

    Nothing happens if stderr is not a file. An earlier try that still writes to the same log keeps the lock.
    """
    start = time.monotonic()
    if stat.S_ISREG(os.fstat(_STDERR).st_mode):
        while not _locked(_STDERR, Path("the log"), fcntl.LOCK_EX) and time.monotonic() - start < _GLANCE:
            time.sleep(_GLANCE / 20)


def held(folder: Path) -> list[str]:
    """Each lock of a run that a process holds, and its holder."""
    paths = [path for path in sorted(_locks(folder).glob("*.lock")) if is_held(path)]
    return [f"{path.name.removesuffix('.lock')}: {_holder(path)}" for path in paths]


def driver(folder: Path) -> str | None:
    """Process id, host and start time of the run's current driver; None if there is none."""
    path = _locks(folder) / _DRIVER
    return _holder(path) if path.exists() and is_held(path) else None


def is_held(path: Path) -> bool:
    """True if a process holds a lock on the file."""
    handle = os.open(path, os.O_RDONLY)
    try:
        return not _locked(handle, path, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _locks(folder: Path) -> Path:
    return folder / "locks"


def _take(path: Path) -> int:
    handle = _open(path)
    try:
        start, is_logged, patience = time.monotonic(), False, _LEASE if "SLURM_JOB_ID" in os.environ else _GLANCE
        while not _locked(handle, path, fcntl.LOCK_EX):
            waited = time.monotonic() - start
            if waited > patience:
                raise Held(f"{path} is held by {_holder(path)}; wait for it or stop it first")
            if waited > _GLANCE and not is_logged:
                log.info("%s is held by %s; waiting up to %g s for its release", path, _holder(path), patience)
                is_logged = True
            time.sleep(_GLANCE / 20)
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _locked(handle: int, path: Path, kind: int) -> bool:
    """Take a lock without waiting; raise RunError if the file system does not support locks.

    Returns:
        True if this process now holds the lock.
    """
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        raise RunError(f"{path}: no locks on this file system ({error.strerror}); mount it with flock") from None
    return True


def _holder(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip() or "an unnamed process"
