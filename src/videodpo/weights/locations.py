"""Map names of weights in a configuration to files on this disk."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

from videodpo.config import HUB_PREFIX, ConfigError
from videodpo.storage.files import read_json
from videodpo.weights.catalogue import catalogue, pinned_digests

PUBLIC_PREFIX = "public:"
FOLDER_VARIABLE = "VIDEODPO_WEIGHTS"


class NotFetched(ConfigError):
    """Published weights are not on this disk."""


class Content(NamedTuple):
    """Expected content of a published file."""

    sha256: str
    size: int
    """Bytes."""


def root() -> Path:
    """Folder of fetched weights: $VIDEODPO_WEIGHTS, by default `weights` in the working directory."""
    return Path(os.environ.get(FOLDER_VARIABLE) or "weights")


def check_name(location: str) -> None:
    """Accept `public:<file>` of the catalogue, `hub:<org>/<name>@<commit>`, or a path that exists.

    Raises:
        ConfigError: the location is anything else; the message says what is allowed.
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
    """Split `hub:<org>/<name>@<commit>` into repository and commit.

    Raises:
        ConfigError: the location does not have this form.
    """
    found = re.fullmatch(r"([\w.-]+/[\w.-]+)(?:@([0-9a-f]{40}))?", location.removeprefix(HUB_PREFIX))
    if not found:
        raise ConfigError(f"{location!r}; after {HUB_PREFIX} comes <organisation>/<name>@<commit, 40 hex digits>")
    repository, revision = found.groups()
    if revision is None:
        known = catalogue().repositories.get(repository)
        example = known.revision if known else "<commit, 40 hex digits>"
        raise ConfigError(
            f"{location!r} has no commit, so its files can change; name the commit: {HUB_PREFIX}{repository}@{example}"
        )
    return repository, revision


def is_published(location: str) -> bool:
    """True for the name of published weights, False for a path."""
    return location.startswith((PUBLIC_PREFIX, HUB_PREFIX))


def local_path(location: str) -> Path:
    """Return the path at which weights are or will be stored: a file, or the folder of a hub repository."""
    if location.startswith(PUBLIC_PREFIX):
        return root() / location.removeprefix(PUBLIC_PREFIX)
    if location.startswith(HUB_PREFIX):
        repository, revision = hub_name(location)
        return root() / "hub" / repository.replace("/", "--") / revision
    return Path(location)


def resolve(location: str) -> Path:
    """Return the file or folder to read.

    Raises:
        NotFetched: the weights are published, and files are missing or have another size.
    """
    if is_published(location):
        for file, published in expected_files(location).items():
            if not file.is_file() or file.stat().st_size != published.size:
                raise _not_fetched(location)
    return local_path(location)


def expected_files(location: str) -> dict[Path, Content]:
    """Return the expected content of each file of published weights.

    Raises:
        NotFetched: the files of a repository are unknown before its download.
    """
    where = local_path(location)
    if location.startswith(PUBLIC_PREFIX):
        published = catalogue().files[location.removeprefix(PUBLIC_PREFIX)]
        return {where: Content(published.sha256, published.size)}
    return {where / file: content for file, content in read_manifest(location).items()}


def digests(location: str, patterns: Sequence[str] = ("*",)) -> dict[str, str]:
    """Return the published SHA-256 of each file. For a repository: of files that match `patterns`, if it is fetched."""
    if location.startswith(PUBLIC_PREFIX):
        return {location: catalogue().files[location.removeprefix(PUBLIC_PREFIX)].sha256}
    try:
        files = read_manifest(location)
    except NotFetched:
        return {}
    matching = [file for file in files if any(fnmatch(file, pattern) for pattern in patterns)]
    return {f"{location}/{file}": files[file].sha256 for file in matching}


def manifest_path(location: str) -> Path:
    """Return the manifest of a fetched repository, a JSON file next to its folder."""
    where = local_path(location)
    return where.with_name(f"{where.name}.json")


def read_manifest(location: str) -> dict[str, Content]:
    """Return the expected content of each file of a fetched repository; the catalogue's digests override recorded ones.

    Raises:
        NotFetched: there is no manifest.
    """
    pinned = pinned_digests(*hub_name(location))
    files = _manifest(location)["files"]
    return {file: Content(pinned.get(file, entry["sha256"]), entry["size"]) for file, entry in files.items()}


def fetched_patterns(location: str) -> list[str]:
    """Return the patterns with which a repository was fetched; raise NotFetched as `read_manifest` does."""
    patterns: list[str] = _manifest(location)["patterns"]
    return patterns


def _manifest(location: str) -> dict[str, Any]:
    path = manifest_path(location)
    if not path.is_file():
        raise _not_fetched(location)
    manifest: dict[str, Any] = read_json(path)
    return manifest


def _not_fetched(location: str) -> NotFetched:
    command = "videodpo weights fetch, with the run's --config and --preset, on a machine with internet access"
    return NotFetched(f"{location!r} is missing or incomplete in {root()}{os.sep}; fetch it with: {command}")
