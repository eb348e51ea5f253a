"""Atomic writes of files and folders, and SHA-256 of their content."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from videodpo.config.errors import InputError, RunError

_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_TEXTS = tuple(os.strerror(number) for number in _FULL)  # libraries written in Rust raise errors without a number
_NEARLY_FULL = 2**16  # bytes: less free space than this explains a failure of torch, which gives no reason
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # for folders on CIFS, FUSE, VirtualBox
_OF_THE_ENGINE = ".snakemake_timestamp"  # Snakemake writes it into output folders


class NoSpace(RunError):
    """The disk is full."""


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path next to `final` to write to; sync and rename it on success, remove it on error.

    Leftovers of killed writers of this file are removed first: the kernel has dropped their locks.

    Raises:
        NoSpace: the disk is full.
        RunError: another process is writing this file.
    """
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    with refuse_full_disk(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        for left in final.parent.glob(f".{glob.escape(final.name)}.*.partial"):
            with suppress(RunError), _locked(left):  # another process is still writing it
                _remove(left)
        with _locked(partial):
            mode = stat.S_IMODE(partial.stat().st_mode)
            try:
                with refuse_full_disk(final):  # checks the free space while the partial file still takes it
                    yield partial
                    partial.chmod(mode)  # safetensors replaces the file by one that only its owner can read
                    sync_file(partial)
                    shutil.rmtree(scratch_folder(partial), ignore_errors=True)
                    os.replace(partial, final)
                    sync_folder(final.parent)
            finally:
                _remove(partial)


def scratch_folder(partial: Path) -> Path:
    """Path of a folder for a library that writes other files next to `partial`; removed together with it."""
    return partial.with_suffix(".scratch")


def _remove(partial: Path) -> None:
    """Remove the leftovers of a writer; the partial file last, because the next writer finds both by its name."""
    shutil.rmtree(scratch_folder(partial), ignore_errors=True)
    partial.unlink(missing_ok=True)


@contextmanager
def _locked(partial: Path) -> Iterator[None]:
    handle = os.open(partial, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"{partial}: another process is writing it; wait for it or stop it first") from None
        yield
    finally:
        os.close(handle)


@contextmanager
def refuse_full_disk(final: Path | None = None) -> Iterator[None]:
    """Convert every library's error about a full disk to the same one-line error.

    Args:
        final: the file that is being written, if known.

    Raises:
        NoSpace: the disk is full.
    """
    try:
        yield
    except NoSpace:
        raise
    except Exception as error:
        if not _is_full(error, final):
            raise
        what = f"{final}: no space left on its disk" if final else f"no space left on a disk ({error})"
        raise NoSpace(f"{what}; free some space, then start again; finished work is kept") from error


def _is_full(error: BaseException | None, final: Path | None) -> bool:
    if final and isinstance(error, RuntimeError):  # raised by torch
        folder = next(folder for folder in final.absolute().parents if folder.exists())
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize < _NEARLY_FULL:
            return True
    while error is not None:
        if (isinstance(error, OSError) and error.errno in _FULL) or any(text in str(error) for text in _FULL_TEXTS):
            return True
        error = error.__cause__ or error.__context__
    return False


def sync_file(file: Path) -> None:
    """Make a file's bytes survive a power cut."""
    with open(file, "rb") as handle:
        os.fsync(handle.fileno())


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, if the file system supports it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
    finally:
        os.close(handle)


def rename_folder(partial: Path, final: Path) -> None:
    """Sync a written folder and rename it to its final name; only one process may call this."""
    with refuse_full_disk(final):
        for file in files_of(partial):
            if file.stat().st_nlink == 1:  # the mode of a hard link is that of another folder's file
                file.chmod(stat.S_IMODE(partial.stat().st_mode) & 0o666)
            sync_file(file)
        old = _put_aside(final) if final.exists() else None
        os.replace(partial, final)
        sync_folder(final.parent)
        if old:
            shutil.rmtree(old)


def remove_folder(folder: Path) -> None:
    """Remove a folder atomically: a kill never leaves it half removed."""
    shutil.rmtree(_put_aside(folder))


def remove_leftover_folders(above: Path) -> None:
    """Remove the leftovers of killed writers of folders; the caller keeps other writers away."""
    for left in above.glob(".*.partial"):
        if left.is_dir():
            shutil.rmtree(left)


def _put_aside(folder: Path) -> Path:
    aside = folder.with_name(f".{folder.name}.old.partial")
    if aside.exists():
        shutil.rmtree(aside)
    return folder.rename(aside)


def write_text(final: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(final) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(final: Path, value: object) -> None:
    """Write sorted, indented JSON atomically."""
    write_text(final, json_text(value))


def json_text(value: object) -> str:
    """Sorted, indented JSON without NaN; equal values give the same text."""
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """Read the value in a JSON file.

    Raises:
        InputError: the file is missing or is not JSON; the message names it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not readable as JSON ({error})") from error


def first_line(error: BaseException) -> str:
    """First line of a library's message, with unprintable characters replaced; for one-line messages."""
    line = str(error).strip().partition("\n")[0]
    return printable(line) or type(error).__name__


def printable(text: str) -> str:
    """Replace unprintable characters, for example those that control a terminal."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of_folder(folder: Path) -> str:
    """Hex SHA-256 of the names and bytes of all files in a folder."""
    listing = "\n".join(f"{path.relative_to(folder)} {sha256_of(path)}" for path in files_of(folder))
    return hashlib.sha256(listing.encode()).hexdigest()


def files_of(folder: Path) -> list[Path]:
    """Sorted list of all files in a folder and its subfolders, except Snakemake's own."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _OF_THE_ENGINE)
