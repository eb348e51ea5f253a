"""Keeps two writers apart: one lock file for each thing that is written, and one for the driver of a run.

The kernel drops a lock when its holder dies, so a killed job never blocks the next. Between nodes that holds where the
file system carries `flock` (NFS does; Lustre when mounted with `flock`).
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import functools
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from videodpo.config.errors import RunError

log = logging.getLogger(__name__)

_DRIVER = "driver.lock"
_GLANCE = 1.0  # seconds: who looks whether a lock is held takes it for a moment
# Seconds in a SLURM job. Its holder is most likely the job's earlier try: it ends after KillWait (30 s by default), and
# an NFS server gives back the locks of a lost node after its lease (90 s by default), or a restart's grace period.
_LEASE = 240.0


class _InRun(Protocol):
    @property
    def folder(self) -> Path: ...


F = TypeVar("F", bound=_InRun)
T = TypeVar("T")


class Held(RunError):
    """Another process has the lock; the message says which one: process, host, and since when."""


@contextmanager
def exclusive(folder: Path, output: Path) -> Iterator[None]:
    """Hold the lock of whoever writes `output`.

    Args:
        folder: of the run. output: a file or folder in it.

    Raises:
        Held: another process writes it.
    """
    name = "-".join(output.relative_to(folder).parts)
    handle = _take(_locks(folder) / f"{name}.lock")
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def in_turn(folder: Path, name: str) -> Iterator[None]:
    """Hold a lock of the run after whoever has it: for short work that several jobs begin at once and one has to do."""
    path = _locks(folder) / f"{name}.lock"
    handle = _open(path)
    try:
        while not _locked(handle, path, fcntl.LOCK_EX):
            time.sleep(_GLANCE / 20)
        yield
    finally:
        os.close(handle)


def writes(name: str) -> Callable[[Callable[[F, Path], T]], Callable[[F, Path], T]]:
    """Marks a stage that writes `name` in a round's folder: while it runs, it holds that lock.

    Raises:
        Held: another process writes it.
    """

    def marked(stage: Callable[[F, Path], T]) -> Callable[[F, Path], T]:
        @functools.wraps(stage)
        def alone(snapshot: F, round_folder: Path) -> T:
            with exclusive(snapshot.folder, round_folder / name):
                return stage(snapshot, round_folder)

        return alone

    return marked


def take_run(folder: Path) -> None:
    """Be the driver of the run until this process ends.

    Raises:
        Held: another driver is running, or a job that an earlier driver left behind.
    """
    handle = _take(_locks(folder) / _DRIVER)  # given back by the kernel alone
    busy = [path for path in sorted(_locks(folder).glob("*.lock")) if path.name != _DRIVER and _is_held(path)]
    if busy:
        os.close(handle)
        lines = [f"\n  {path.name.removesuffix('.lock')}: {_holder(path)}" for path in busy]
        raise Held(f"{folder}: jobs of an earlier start still run; wait for them or stop them first:{''.join(lines)}")


def driver(folder: Path) -> str | None:
    """Who drives the run at this moment: process, host, and since when."""
    path = _locks(folder) / _DRIVER
    return _holder(path) if path.exists() and _is_held(path) else None


def _locks(folder: Path) -> Path:
    return folder / "locks"


def _take(path: Path) -> int:
    handle = _open(path)
    try:
        start, is_told, patience = time.monotonic(), False, _LEASE if "SLURM_JOB_ID" in os.environ else _GLANCE
        while not _locked(handle, path, fcntl.LOCK_EX):
            waited = time.monotonic() - start
            if waited > patience:
                raise Held(f"{path} is held by {_holder(path)}; wait for it or stop it first")
            if waited > _GLANCE and not is_told:
                log.info("%s is held by %s; waiting up to %g s for its end", path, _holder(path), patience)
                is_told = True
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


def _is_held(path: Path) -> bool:
    handle = os.open(path, os.O_RDONLY)
    try:
        return not _locked(handle, path, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def _locked(handle: int, path: Path, kind: int) -> bool:
    """Raises RunError where the file system knows no locks."""
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
