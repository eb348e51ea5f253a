"""Weights that a configuration needs, and a table of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from videodpo.config import HUB_PREFIX
from videodpo.weights.catalogue import catalogue
from videodpo.weights.licences import licence_of
from videodpo.weights.locations import PUBLIC_PREFIX, NotFetched, expected_files, hub_name, local_path, resolve


@dataclass(frozen=True)
class Needed:
    """Weights that a run reads."""

    location: str
    """Name or path in the configuration."""
    keys: tuple[str, ...]
    """Keys of the configuration that name them."""
    patterns: tuple[str, ...]
    """Patterns of the files that are read from a hub repository."""


def merge(needed: Iterable[Needed]) -> list[Needed]:
    """Merge entries with the same location, so that weights named at several keys occur once."""
    found: dict[str, Needed] = {}
    for one in needed:
        before = found.get(one.location, Needed(one.location, (), ()))
        patterns = tuple(dict.fromkeys(before.patterns + one.patterns))
        found[one.location] = Needed(one.location, before.keys + one.keys, patterns)
    return list(found.values())


def describe(needed: Sequence[Needed]) -> str:
    """Table for the terminal: size, path, licence and use of all weights."""
    rows = [("WEIGHTS", "SIZE", "WHERE", "LICENCE", "FOR")]
    for one in needed:
        licence, non_commercial = licence_of(one.location)
        terms = f"{licence} [NON-COMMERCIAL]" if non_commercial else licence
        rows.append((one.location, _size(one.location), _where(one.location), terms, ", ".join(one.keys)))
    widths = [max(len(row[k]) for row in rows) for k in range(5)]
    return "\n".join("  ".join(text.ljust(widths[k]) for k, text in enumerate(row)).rstrip() for row in rows)


def _size(location: str) -> str:
    if not location.startswith((PUBLIC_PREFIX, HUB_PREFIX)):
        path = local_path(location)
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        return _readable(sum(file.stat().st_size for file in files))
    try:
        return _readable(sum(content.size for content in expected_files(location).values()))
    except NotFetched:
        known = catalogue().repositories.get(hub_name(location)[0])
        return _readable(known.size) if known and known.size else "?"


def _where(location: str) -> str:
    try:
        return str(resolve(location))
    except NotFetched:
        return "missing"


def _readable(num_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"
