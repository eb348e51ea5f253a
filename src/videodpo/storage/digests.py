"""Keeps the digests of what a stage wrote beside it, and finds what is not what was written.

The digests of `NAME`, a file or a folder, lie in `.NAME.sha256` as `sha256sum --check` reads them; a line that begins
with # is of a part of the file. While `NAME` is replaced its digests are there twice, the old ones and the new ones
with an empty line between: so whenever the writer is killed, one of the two describes what lies there.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from videodpo.config.errors import InputError
from videodpo.storage.files import (
    atomic_path,
    files_of,
    json_text,
    refuse_full_disk,
    sha256_of,
    sync_file,
    sync_folder,
    write_text,
)
from videodpo.storage.files import read_json as read_plain_json

_LINE = re.compile(r"(# )?([0-9a-f]{64})  (.+)")


class Damaged(InputError):
    """A file is not what was written under its name."""


class Digests(NamedTuple):
    """SHA-256 of a file, or of the files of a folder, by name; and of a file's parts, by theirs."""

    files: dict[str, str]
    parts: dict[str, str]


def _no_parts(_: Path) -> dict[str, str]:
    return {}


@contextmanager
def product_path(final: Path, parts: Callable[[Path], dict[str, str]] = _no_parts) -> Iterator[Path]:
    """As `atomic_path`, for what later stages read: its digest lies beside it.

    Args:
        parts: gives the digests of the written file's parts, for readers that do not want all of it.
    """
    with atomic_path(final) as partial:
        yield partial
        digests = Digests({final.name: sha256_of(partial)}, parts(partial))
        _announce(final, digests)
    _settle(final, digests)


def record(path: Path) -> None:
    """The digests of a file or folder beside it, for what is not written in one piece."""
    _write_digests(path, [Digests(_digests_of(path, path.name), {})])


def link_product(path: Path, link: Path) -> None:
    """A second name for a product, of the same last part, that takes no room.

    Raises:
        OSError: the file system has no hard links.
    """
    with refuse_full_disk(link):
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(digest_path(path), digest_path(link))
        os.link(path, link)


def replace_folder(partial: Path, final: Path) -> None:
    """Sync a written folder and give it its final name, its digests beside it; one process calls it."""
    with refuse_full_disk(final):
        for file in files_of(partial):
            sync_file(file)
        digests = Digests(_digests_of(partial, final.name), {})
        _announce(final, digests)
        old = _put_aside(final) if final.exists() else None
        os.replace(partial, final)
        sync_folder(final.parent)
        _settle(final, digests)
        if old:
            shutil.rmtree(old)


def remove_folder(folder: Path) -> None:
    """Remove a folder and its digests; a kill leaves none that is half there."""
    shutil.rmtree(_put_aside(folder))
    digest_path(folder).unlink(missing_ok=True)


def remove_leftover_folders(above: Path) -> None:
    """Remove what killed writers of folders left; the caller keeps other writers away."""
    for left in above.glob(".*.partial"):
        if left.is_dir():
            shutil.rmtree(left)


def _put_aside(folder: Path) -> Path:
    aside = folder.with_name(f".{folder.name}.old.partial")
    if aside.exists():
        shutil.rmtree(aside)
    return folder.rename(aside)


def record_text(final: Path, text: str) -> None:
    """Write UTF-8 text atomically, its digest beside it."""
    with product_path(final) as partial:
        partial.write_text(text, encoding="utf-8")


def record_json(final: Path, value: object) -> None:
    """Write sorted, indented JSON atomically, its digest beside it."""
    record_text(final, json_text(value))


def read_json(path: Path) -> Any:
    """Read what `record_json` wrote.

    Raises:
        ValueError: the file is missing, damaged or no JSON; the message names it.
    """
    require_intact(path)
    return read_plain_json(path)


def digest_path(path: Path) -> Path:
    """Where the digests of a file or folder lie."""
    return path.with_name(f".{path.name}.sha256")


def read_digests(path: Path) -> list[Digests]:
    """What may lie at `path`: one version, two where a writer was killed, none where nothing is known.

    Raises:
        Damaged: the digests themselves are.
    """
    text = _digest_text(path)
    return [] if text is None else _parsed(text, path)


def _digest_text(path: Path) -> str | None:
    try:
        return digest_path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None


def _parsed(text: str, path: Path) -> list[Digests]:
    found = []
    for block in text.split("\n\n"):
        digests = Digests({}, {})
        for line in block.splitlines() or [""]:
            fields = _LINE.fullmatch(line)
            if not fields:
                raise damaged(digest_path(path), f"no digest in the line {line[:80]!r}")
            part, digest, name = fields.groups()
            (digests.parts if part else digests.files)[name] = digest
        found.append(digests)
    return found


def _announce(final: Path, digests: Digests) -> None:
    """Before the rename: what lies there, and what is going to."""
    try:
        known = read_digests(final) if final.exists() else []
    except Damaged:
        known = []
    if known != [digests]:
        _write_digests(final, [*known, digests])


def _settle(final: Path, digests: Digests) -> None:
    if read_digests(final) != [digests]:
        _write_digests(final, [digests])


def _write_digests(final: Path, versions: list[Digests]) -> None:
    blocks = []
    for files, parts in versions:
        lines = [f"{digest}  {name}\n" for name, digest in files.items()]
        blocks.append("".join(lines + [f"# {digest}  {name}\n" for name, digest in parts.items()]))
    write_text(digest_path(final), "\n".join(blocks))


def _digests_of(path: Path, name: str) -> dict[str, str]:
    if not path.is_dir():
        return {name: sha256_of(path)}
    return {f"{name}/{file.relative_to(path).as_posix()}": sha256_of(file) for file in files_of(path)}


_intact: dict[Path, tuple[int, ...]] = {}


def fault(path: Path) -> str | None:
    """What is wrong with a file or folder that is there; None where nothing is, or where nothing is known of it.

    A file is read once in a process, and again when it was touched.
    """
    while True:
        text = _digest_text(path)
        if text is None:
            return None
        stat = path.stat()
        state = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, hash(text))
        if path.is_file() and _intact.get(path) == state:
            return None
        found = _fault(path, text)
        if found is None:
            _intact[path] = state
        if found is None or text == _digest_text(path):  # it was not replaced meanwhile
            return found


def _fault(path: Path, text: str) -> str | None:
    try:
        versions = _parsed(text, path)
    except Damaged:
        return f"{digest_path(path).name} beside it has no digests"
    there = _digests_of(path, path.name)
    known = versions[-1].files
    if any(there == version.files for version in versions):
        return None
    names = sorted(name for name in there.keys() | known.keys() if there.get(name) != known.get(name))
    return f"sha256 of {', '.join(names)} is not what was written"


def require_intact(path: Path) -> None:
    """Raises Damaged where a file or folder is there and is not what was written; nothing where nothing is known."""
    if path.exists() and (found := fault(path)):
        raise damaged(path, found)


def damaged(path: Path, what: str) -> Damaged:
    """The error that names a file, what is wrong with it, and the command that mends it."""
    run = next((folder for folder in path.parents if (folder / "config").is_dir()), path.parent)
    command = f"videodpo verify {shlex.quote(str(run))} --discard-damaged"
    cure = f"`{command}` takes away what is damaged, and the next start makes it again"
    return Damaged(f"{path}: {what}; {cure}")
