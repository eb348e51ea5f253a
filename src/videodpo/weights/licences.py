"""Licences of weights, for published names and for paths."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import yaml

from videodpo.config import HUB_PREFIX, Source
from videodpo.storage.files import sha256_of
from videodpo.weights.catalogue import PublishedFile, PublishedRepository, catalogue
from videodpo.weights.locations import PUBLIC_PREFIX, hub_name, local_path

_NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|research-only", re.IGNORECASE)


class Licence(NamedTuple):
    """Licence of weights or prompts."""

    name: str
    is_non_commercial: bool

    def __str__(self) -> str:
        return f"{self.name}, **non-commercial**" if self.is_non_commercial else self.name


def licence_of(location: str) -> Licence:
    """Look up the licence of weights in the catalogue, or in their model card.

    A file is recognized by its SHA-256 or its name, a folder by its name `<name>`, `<org>--<name>` or `<org>/<name>`.
    For an unknown folder, the licence is read from its model card, if the card names one.
    """
    if location.startswith(PUBLIC_PREFIX):
        return _terms(catalogue().files[location.removeprefix(PUBLIC_PREFIX)])
    if location.startswith(HUB_PREFIX):
        known: PublishedFile | PublishedRepository | None = catalogue().repositories.get(hub_name(location)[0])
    else:
        path = local_path(location).absolute()
        known = _file(path) if path.is_file() else _repository(path)
    if known:
        return _terms(known)
    return _card(local_path(location)) or Licence("see its model card", False)


def licence_of_prompts(source: Source) -> Licence:
    """Return the licence of the prompts that `prompts.source` names."""
    if source.kind == "vidprom":
        return Licence("CC BY-NC 4.0", True)
    if source.kind == "demo_world":
        return Licence("Apache-2.0", False)
    if source.kind == "huggingface" or source.is_on_hub:
        return Licence("see the card of the data set", False)
    return Licence("as stated by the owner of this file", False)


def _terms(published: PublishedFile | PublishedRepository) -> Licence:
    return Licence(published.licence, published.non_commercial)


def _file(path: Path) -> PublishedFile | None:
    size = path.stat().st_size
    for name, published in catalogue().files.items():
        if Path(name).stem == path.stem or (published.size == size and published.sha256 == sha256_of(path)):
            return published
    return None


def _repository(path: Path) -> PublishedRepository | None:
    """Find a repository by any part of the path: hub caches have the commit's folder below the repository's folder."""
    for name, published in catalogue().repositories.items():
        names = {name.partition("/")[2], name.replace("/", "--"), f"models--{name.replace('/', '--')}"}
        if names & set(path.parts):
            return published
    return None


def _card(path: Path) -> Licence | None:
    """Read the licence in the YAML header of a folder's README.md, the hub's format of a model card."""
    card = path / "README.md"
    if not card.is_file():
        return None
    head = re.match(r"---\n(.*?)\n---", card.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        fields = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return None
    if not isinstance(fields, dict) or not (name := fields.get("license_name") or fields.get("license")):
        return None
    return Licence(f"{name}, according to its model card", bool(_NON_COMMERCIAL.search(str(name).replace("_", "-"))))
