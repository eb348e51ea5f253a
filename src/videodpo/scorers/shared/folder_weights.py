"""Base of scorers whose weights are a folder in transformers' format."""

from __future__ import annotations

import json
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
        named = options.weights
        if named.startswith(PUBLIC_PREFIX):
            raise InputError(f"weights: {named!r} is a file; a folder is needed")
        folder = resolve(named)
        needs = "a folder in transformers' format is needed, with config.json, *.safetensors, processor and tokenizer"
        for names in ("config.json",), ("preprocessor_config.json", "processor_config.json"):
            if not any((folder / name).is_file() for name in names):
                raise InputError(f"weights: {named!r} has no {' or '.join(names)}; {needs}")
        refuse_downloads(folder, cls.hub_files, "weights")
        found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
        if cls.model_type is not None and found != cls.model_type:
            raise InputError(f"weights: {named!r} is a model of type {found!r}, not {cls.model_type!r}")
        refuse_network(folder, TRANSFORMERS, "weights")
        return folder
