"""Base of scorers whose weights are a folder in transformers' format."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.scorers.shared.backbone import NetworkScorer
from videodpo.weights.contents import TRANSFORMERS, refuse_downloads, refuse_network
from videodpo.weights.locations import PUBLIC_PREFIX, NotFetched, resolve


class FolderWeightsScorer(NetworkScorer):
    """A scorer whose network, processor and tokenizer are in one folder."""

    class Options(NetworkScorer.Options):
        """Weights of the network."""

        weights: str
        """Folder in transformers' format, with processor and tokenizer; or `hub:<org>/<name>@<commit>`."""

    model_type: ClassVar[str | None] = None
    """Required `model_type` in the folder's config.json; None accepts any."""

    @classmethod
    def check(cls, options: Section) -> None:
        """Check as `folder` does, but accept published weights that are not fetched yet."""
        with suppress(NotFetched):
            cls.folder(options)

    @classmethod
    def folder(cls, options: Section) -> Path:
        """Return the folder of the weights.

        Raises:
            InputError: a file is missing, the model is of another type, or the weights are not fetched.
        """
        assert isinstance(options, FolderWeightsScorer.Options)
        needs = "a folder in transformers' format is needed, with config.json, *.safetensors, processor and tokenizer"
        processor = ("preprocessor_config.json", "processor_config.json")
        folder = transformers_folder(options.weights, processor, cls.hub_files, cls.model_type, needs)
        refuse_network(folder, TRANSFORMERS, "weights")
        return folder


def transformers_folder(
    location: str, any_of: Sequence[str], patterns: tuple[str, ...], model_type: str | None, needs: str
) -> Path:
    """Return the path of a folder in transformers' format.

    Args:
        location: a path or `hub:<org>/<name>@<commit>`.
        any_of: names of files of which the folder must have one, next to config.json.
        patterns: patterns of the small files to check for failed downloads.
        model_type: required `model_type` in config.json; None accepts any.
        needs: what is needed, for the messages.

    Raises:
        InputError: a file is missing, the model is of another type, or the weights are not fetched.
    """
    if location.startswith(PUBLIC_PREFIX):
        raise InputError(f"weights: {location!r} is a file; {needs}")
    folder = resolve(location)
    for names in ("config.json",), any_of:
        if not any((folder / name).is_file() for name in names):
            raise InputError(f"weights: {location!r} has no {' or '.join(names)}; {needs}")
    refuse_downloads(folder, patterns, "weights")
    found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if model_type is not None and found != model_type:
        raise InputError(f"weights: {location!r} is a model of type {found!r}, not {model_type!r}; {needs}")
    return folder
