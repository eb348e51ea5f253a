"""Names of weights in a configuration to files on this disk."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from videodpo.config import HUB_PREFIX, ConfigError
from videodpo.weights.catalogue import catalogue

PUBLIC_PREFIX = "public:"
FOLDER_VARIABLE = "VIDEODPO_WEIGHTS"


class NotFetched(ConfigError):
    """Published weights that are not on this disk."""


def root() -> Path:
    """Folder of fetched weights: $VIDEODPO_WEIGHTS, or `weights` in the working directory."""
    return Path(os.environ.get(FOLDER_VARIABLE) or "weights")


def check_name(location: str) -> None:
    """Whether a name is one: `public:<file>` of the catalogue, `hub:<org>/<name>@<commit>`, or a path that exists.

    Raises:
        ConfigError: it is not; the message says what is allowed.
    """
    if location.startswith(PUBLIC_PREFIX):
        name, known = location.removeprefix(PUBLIC_PREFIX), catalogue().files
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{location!r} is not in the catalogue{hint} (known: {', '.join(known)})")
    elif location.startswith(HUB_PREFIX):
        hub_name(location)
    elif not Path(location).exists():
        allowed = f"{PUBLIC_PREFIX}<file> or {HUB_PREFIX}<organisation>/<name>@<commit>"
        raise ConfigError(f"{location!r} does not exist; give a path, {allowed}")


def hub_name(location: str) -> tuple[str, str]:
    """Repository and commit of `hub:<org>/<name>@<commit>`.

    Raises:
        ConfigError: not of this form.
    """
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([0-9a-f]{40}))?", location.removeprefix(HUB_PREFIX))
    if not found:
        raise ConfigError(f"{location!r}; after {HUB_PREFIX} comes <organisation>/<name>@<commit, 40 hex digits>")
    repository, revision = found.groups()
    if revision is None:
        known = catalogue().repositories.get(repository)
        example = known.revision if known else "<commit, 40 hex digits>"
        raise ConfigError(f"{location!r} can change under you; name the commit: {HUB_PREFIX}{repository}@{example}")
    return repository, revision


def is_published(location: str) -> bool:
    """Whether the name is that of something to be fetched, not a path."""
    return location.startswith((PUBLIC_PREFIX, HUB_PREFIX))


def local_path(location: str) -> Path:
    """Where the named weights lie, or will: a file, or a hub repository's folder."""
    if location.startswith(PUBLIC_PREFIX):
        return root() / location.removeprefix(PUBLIC_PREFIX)
    if location.startswith(HUB_PREFIX):
        repository, revision = hub_name(location)
        return root() / "hub" / repository.replace("/", "--") / revision
    return Path(location)


def resolve(location: str) -> Path:
    """The file or folder to read.

    Raises:
        NotFetched: published, and not all there.
    """
    if is_published(location):
        for file, size in expected_sizes(location).items():
            if not file.is_file() or file.stat().st_size != size:
                raise _not_fetched(location)
    return local_path(location)


def expected_sizes(location: str) -> dict[Path, int]:
    """File: bytes, of what a published name stands for; NotFetched where that is not known yet."""
    where = local_path(location)
    if location.startswith(PUBLIC_PREFIX):
        return {where: catalogue().files[location.removeprefix(PUBLIC_PREFIX)].size}
    return {where / file: size for file, (_, size) in read_manifest(location).items()}


def digests(location: str, patterns: Sequence[str] = ("*",)) -> dict[str, str]:
    """File: SHA-256, as published; of a repository the files that are read, none if it was not fetched yet."""
    if location.startswith(PUBLIC_PREFIX):
        return {location: catalogue().files[location.removeprefix(PUBLIC_PREFIX)].sha256}
    try:
        manifest = read_manifest(location)
    except NotFetched:
        return {}
    return {f"{location}/{file}": sha256 for file, (sha256, _) in manifest.items() if is_read(file, patterns)}


def is_read(file: str, patterns: Sequence[str]) -> bool:
    """Whether a repository's file is among those that the patterns name."""
    return any(fnmatch(file, pattern) for pattern in patterns)


def manifest_path(location: str) -> Path:
    """What was fetched of a hub repository, beside its folder."""
    where = local_path(location)
    return where.with_name(f"{where.name}.json")


def read_manifest(location: str) -> dict[str, tuple[str, int]]:
    """File: (SHA-256, bytes) of a fetched repository; NotFetched where there is none."""
    stored = _stored(location)
    return {file: (entry["sha256"], entry["size"]) for file, entry in stored["files"].items()}


def fetched_patterns(location: str) -> list[str]:
    """What was asked for when the repository was fetched; NotFetched where it was not."""
    patterns: list[str] = _stored(location)["patterns"]
    return patterns


def _stored(location: str) -> dict[str, Any]:
    path = manifest_path(location)
    if not path.is_file():
        raise _not_fetched(location)
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return stored


def _not_fetched(location: str) -> NotFetched:
    command = "videodpo weights fetch, with the run's --config and --preset, where there is internet"
    return NotFetched(f"{location!r} is not (whole) in {root()}{os.sep}; get it by: {command}")
