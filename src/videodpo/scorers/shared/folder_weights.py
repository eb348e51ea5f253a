"""What the scorers that read a folder in transformers' format have in common."""

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
    """A scorer whose network, processor and tokenizer lie in one folder."""

    class Options(NetworkScorer.Options):
        """The network's weights."""

        weights: str
        """Folder as transformers writes it, processor and tokenizer with it; or `hub:<org>/<name>@<commit>`."""

    @staticmethod
    def check(options: Section) -> None:
        refuse_folder(options)


def refuse_folder(options: Section, model_type: str | None = None) -> None:
    """As `folder_of`, but what is published may be fetched later."""
    assert isinstance(options, FolderWeightsScorer.Options)
    if options.weights.startswith(PUBLIC_PREFIX):
        raise InputError(f"weights: {options.weights!r} is a file, a folder is needed")
    with suppress(NotFetched):
        folder_of(options, model_type)


def folder_of(options: Section, model_type: str | None = None) -> Path:
    """The folder of weights.

    Args:
        model_type: what its config.json must say.

    Raises:
        InputError: a file is missing, or it is another model, or not fetched.
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
