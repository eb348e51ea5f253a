"""Manifests: the SHA-256 of a stage's outputs, stored next to them, so that damage and manual edits are detected.

The manifest of `NAME`, a file or a folder, is `.NAME.sha256`, in the format of `sha256sum --check`. An old manifest is
removed just before `NAME` is replaced, and the new one is written just after. A writer that is killed in between leaves
`NAME` without a manifest, never with a wrong one.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from videodpo.config.errors import InputError
from videodpo.storage.files import (
    atomic_path,
    files_of,
    json_text,
    refuse_full_disk,
    rename_folder,
    sha256_of,
    write_text,
)
from videodpo.storage.files import read_json as read_plain_json

log = logging.getLogger(__name__)

EDITABLE = ("prompts.parquet", "omniscore.parquet", "pairs.parquet", "labels.parquet")
"""Tables that a person may curate: stages use edited ones as they are, with a warning."""

_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


class Damaged(InputError):
    """A file differs from what was written under its name."""


def manifest_path(product: Path) -> Path:
    """Path of the manifest of a file or folder."""
    return product.with_name(f".{product.name}.sha256")


@contextmanager
def product_path(final: Path, alongside: Sequence[Path] = ()) -> Iterator[Path]:
    """As `atomic_path`, with a manifest; for files that other stages read.

    Args:
        final: final path. An edited table at this path is kept as a copy.
        alongside: finished files that belong to the same unit; the manifest lists them too.
    """
    keep_edited(final)
    with atomic_path(final) as partial:
        yield partial
        digests = {final.name: sha256_of(partial)}
        digests |= {path.relative_to(final.parent).as_posix(): sha256_of(path) for path in alongside}
        manifest_path(final).unlink(missing_ok=True)
    _write(final, digests)


@contextmanager
def product_folder(final: Path) -> Iterator[Path]:
    """As `product_path`, for a folder, which the caller creates; only one process may write it."""
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # left by a killed writer
    try:
        with refuse_full_disk(final):
            yield partial
            digests = _digests_of_folder(partial, final.name)
            manifest_path(final).unlink(missing_ok=True)
            rename_folder(partial, final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _write(final, digests)


def record_text(final: Path, text: str) -> None:
    """Write UTF-8 text atomically, with a manifest."""
    with product_path(final) as partial:
        partial.write_text(text, encoding="utf-8")


def record_json(final: Path, value: object) -> None:
    """Write sorted, indented JSON atomically, with a manifest."""
    record_text(final, json_text(value))


def read_json(path: Path) -> Any:
    """Read a file that `record_json` wrote.

    Raises:
        InputError: the file is missing, damaged or not JSON; the message names it.
    """
    require_intact(path)
    return read_plain_json(path)


def read_manifest(product: Path) -> dict[str, str]:
    """Read the SHA-256 of each file that belongs to a product.

    Returns:
        SHA-256 by file name, relative to the product's folder; empty if there is no manifest.

    Raises:
        Damaged: the manifest itself is damaged.
    """
    try:
        text = manifest_path(product).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    if not text.endswith("\n"):
        raise damaged(manifest_path(product), "it is truncated")
    found = {}
    for line in text.splitlines():
        fields = _LINE.fullmatch(line)
        if not fields:
            raise damaged(manifest_path(product), f"no digest in the line {line[:80]!r}")
        found[fields[2]] = fields[1]
    if not any(name.partition("/")[0] == product.name for name in found):
        raise damaged(manifest_path(product), f"it does not list {product.name}")
    return found


def fault(product: Path) -> str | None:
    """Compare a file or folder with its manifest.

    Files alongside are left out: reading a table must not read gigabytes of latents.

    Returns:
        A description of the difference; None if there is none, or if there is no manifest.

    Raises:
        Damaged: the manifest itself is damaged.
    """
    known = read_manifest(product)
    if product.is_file():
        return "differs from what was written" if known and sha256_of(product) != known.get(product.name) else None
    there = _digests_of_folder(product, product.name) if known else {}
    wrong = sorted(name for name in there.keys() | known.keys() if there.get(name) != known.get(name))
    return f"{', '.join(wrong)}: differs from what was written" if wrong else None


def require_intact(path: Path) -> None:
    """Refuse a file or folder that differs from its manifest. Without a manifest, accept it.

    Edited tables of `EDITABLE` are accepted with a warning.

    Raises:
        Damaged: the SHA-256 differs from the manifest.
    """
    if not path.exists() or _checked.get(path) == _state(path):
        return
    if is_editable(path):
        if is_edited(path):
            log.warning("%s was edited after its stage wrote it; the edited table is used", path)
    elif found := fault(path):
        raise damaged(path, found)
    _checked[path] = _state(path)


def is_editable(table: Path) -> bool:
    """True for the tables of `EDITABLE`; the evaluation has another table named prompts.parquet."""
    return table.name in EDITABLE and table.parent.name != "evaluation"


def is_edited(table: Path) -> bool:
    """True if a table of `EDITABLE` differs from what its stage wrote."""
    if not is_editable(table) or not table.is_file():
        return False
    known = read_manifest(table).get(table.name)
    return known is not None and _digest_of_table(table, _state(table)) != known


def edited_inputs(*tables: Path) -> dict[str, str]:
    """Provenance metadata for outputs that depend on edited tables.

    Returns:
        Empty, or `edited_inputs` with the name and SHA-256 of each edited table.
    """
    found = [f"{table.name} {_digest_of_table(table, _state(table))}" for table in tables if is_edited(table)]
    return {"edited_inputs": ", ".join(found)} if found else {}


def keep_edited(table: Path) -> None:
    """Copy an edited table to `<name>.edited-<digest>.parquet` before its stage overwrites it."""
    if is_edited(table):
        copy = table.with_name(f"{table.stem}.edited-{sha256_of(table)[:8]}.parquet")
        shutil.copyfile(table, copy)
        log.warning("%s was edited and is about to be overwritten; the edited table is kept as %s", table, copy.name)


def damaged(path: Path, what: str) -> Damaged:
    """Build the error that names a file, its fault, and the command that fixes it."""
    command = f"videodpo verify {shlex.quote(str(run_of(path)))} --discard-damaged"
    return Damaged(f"{path}: {what}; `{command}` removes damaged files, and the next run re-creates them")


def run_of(path: Path) -> Path:
    """Folder of the run that made a file: in a study, the file may be a link to another run's file."""

    def above(file: Path) -> Path:
        return next((folder for folder in file.parents if (folder / "config").is_dir()), file.parent)

    run, real = above(path), above(path.resolve())
    return run if run.resolve() == real else Path(os.path.relpath(real))


_checked: dict[Path, tuple[int, ...]] = {}
"""State of each file when this process last found it intact."""


def _state(path: Path) -> tuple[int, ...]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


@functools.lru_cache(maxsize=8)
def _digest_of_table(table: Path, state: tuple[int, ...]) -> str:
    """SHA-256 of a table in this state. Cached, because a stage asks several times and a large table takes a second."""
    return sha256_of(table)


def _digests_of_folder(folder: Path, name: str) -> dict[str, str]:
    return {f"{name}/{file.relative_to(folder).as_posix()}": sha256_of(file) for file in files_of(folder)}


def _write(product: Path, digests: dict[str, str]) -> None:
    write_text(manifest_path(product), "".join(f"{digest}  {name}\n" for name, digest in digests.items()))
