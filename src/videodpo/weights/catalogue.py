"""Catalogue of known published weights: `catalogue.yaml`, typed."""

from __future__ import annotations

import functools
from importlib.resources import files

import yaml
from pydantic import Field

from videodpo.config.section import Section

_SHA256 = Field(pattern=r"^[0-9a-f]{64}$")


class PublishedFile(Section):
    """Published file with its own URL."""

    what: str
    url: str
    member: str | None = None
    """Name of the file in the zip archive at the URL; null if the URL is the file itself."""
    sha256: str = _SHA256
    size: int
    """Bytes."""
    licence: str
    non_commercial: bool = False


class PublishedRepository(Section):
    """Repository on the model hub."""

    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    """Commit that is known to work."""
    licence: str
    non_commercial: bool = False
    size: int | None = None
    """Total bytes of the files that are read."""
    files: dict[str, str] = Field(default_factory=dict)
    """SHA-256 by file name."""


class Catalogue(Section):
    """All published weights by name."""

    files: dict[str, PublishedFile]
    repositories: dict[str, PublishedRepository]


@functools.cache
def catalogue() -> Catalogue:
    """Catalogue of this package."""
    text = files("videodpo.weights").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return Catalogue.model_validate(yaml.safe_load(text))


def pinned_digests(repository: str, revision: str) -> dict[str, str]:
    """Return the catalogue's SHA-256 of each file of a repository at this commit, by file name."""
    known = catalogue().repositories.get(repository)
    return known.files if known and known.revision == revision else {}
