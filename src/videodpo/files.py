"""Writes files that are whole or absent, names them by content, and keeps two writers apart."""

from __future__ import annotations

import datetime
import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """A temporary name beside `final` to write to; synced and renamed on success, removed on error."""
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    try:
        yield partial
        with open(partial, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(partial, final)
        sync_folder(final.parent)
    finally:
        partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(final: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(final) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(final: Path, value: object) -> None:
    """Write sorted, indented JSON atomically."""
    write_text(final, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        ValueError: missing, or no JSON; the message names the file.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON ({error})") from error


def first_line(error: BaseException) -> str:
    """What a library says, fit for a message of one line."""
    line = str(error).strip().partition("\n")[0]
    return "".join(char if char.isprintable() else "?" for char in line) or type(error).__name__


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """Hex SHA-256 of all files in a folder: their names and bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listing = "\n".join(f"{path.relative_to(folder)} {sha256_of(path)}" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, or say who does.

    The kernel drops the lock when its holder dies, so a killed job never blocks the next.

    Raises:
        RuntimeError: another process holds it; the message has host, pid and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = path.read_text(encoding="utf-8").strip() or "an unnamed process"
            raise RuntimeError(f"{path} is held by {holder}; wait for it or stop it first") from None
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"pid {os.getpid()} on {socket.gethostname()} since {since}\n".encode(), 0)
        yield
    finally:
        os.close(handle)
