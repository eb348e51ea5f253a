"""Base of scorers whose weights are a folder in transformers' format."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

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

    @staticmethod
    def check(options: Section) -> None:
        refuse_folder(options)


def refuse_folder(options: Section, model_type: str | None = None) -> None:
    """Check as `folder_of` does, but accept published weights that are not fetched yet."""
    assert isinstance(options, FolderWeightsScorer.Options)
    if options.weights.startswith(PUBLIC_PREFIX):
        raise InputError(f"weights: {options.weights!r} is a file, a folder is needed")
    with suppress(NotFetched):
        folder_of(options, model_type)


def folder_of(options: Section, model_type: str | None = None) -> Path:
    """Return the folder of the weights.

    Args:
        model_type: required `model_type` in its config.json; None accepts any.

    Raises:
        InputError: a file is missing, the model is of another type, or the weights are not fetched.
    """
    assert isinstance(options, FolderWeightsScorer.Options)
    folder = resolve(options.weights)
    needs = "a folder in transformers' format is needed, with config.json, *.safetensors, processor and tokenizer"
    for names in ("config.json",), ("preprocessor_config.json", "processor_config.json"):
        if not any((folder / name).is_file() for name in names):
            raise InputError(f"weights: {options.weights!r} has no {' or '.join(names)}; {needs}")
    refuse_downloads(folder, FolderWeightsScorer.hub_files, "weights")
    found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if model_type is not None and found != model_type:
        raise InputError(f"weights: {options.weights!r} is a model of type {found!r}, not {model_type!r}")
    refuse_network(folder, TRANSFORMERS, "weights")
    return folder
