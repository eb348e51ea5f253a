"""Published weights that the project knows: `catalogue.yaml`, typed."""

from __future__ import annotations

import functools
from importlib.resources import files

import yaml
from pydantic import Field

from videodpo.config.section import Section

_SHA256 = Field(pattern=r"^[0-9a-f]{64}$")


class PublishedFile(Section):
    """One file with its own address."""

    what: str
    url: str
    member: str | None = None
    """Name in the zip archive at the address."""
    sha256: str = _SHA256
    size: int
    """Bytes."""
    licence: str
    non_commercial: bool = False


class PublishedRepository(Section):
    """A repository of the model hub."""

    revision: str = Field(pattern=r"^[0-9a-f]{40}$")
    """Commit that is known to work."""
    licence: str
    non_commercial: bool = False
    size: int | None = None
    """Bytes of the files that are read."""
    files: dict[str, str] = Field(default_factory=dict)
    """File: SHA-256."""


class Catalogue(Section):
    """All published weights by name."""

    files: dict[str, PublishedFile]
    repositories: dict[str, PublishedRepository]


@functools.cache
def catalogue() -> Catalogue:
    """The catalogue that comes with the package."""
    text = files("videodpo.weights").joinpath("catalogue.yaml").read_text(encoding="utf-8")
    return Catalogue.model_validate(yaml.safe_load(text))


def pinned_digests(repository: str, revision: str) -> dict[str, str]:
    """Return the SHA-256 that the catalogue has for files of a repository at this commit, by file name."""
    known = catalogue().repositories.get(repository)
    return known.files if known and known.revision == revision else {}
