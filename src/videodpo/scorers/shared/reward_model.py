"""Base of scorers whose network is a reward model on Qwen2-VL."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.scorers.shared.backbone import NetworkScorer
from videodpo.scorers.shared.file_weights import check_file
from videodpo.scorers.shared.reward_text import RewardText
from videodpo.weights.contents import refuse_downloads
from videodpo.weights.locations import PUBLIC_PREFIX, NotFetched, resolve


class RewardFiles(NamedTuple):
    """What a reward model is loaded from."""

    checkpoint: Path
    base: Path
    """Folder with config and tokenizer of Qwen2-VL."""
    text: str
    """Text after the frames, with `{text_prompt}`."""


class RewardModelScorer(NetworkScorer):
    """A scorer whose network reads a text after the frames and answers at special tokens."""

    text: ClassVar[RewardText]
    hub_files = ("config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt")

    class Options(NetworkScorer.Options):
        """Weights and data type of the network."""

        weights: list[str]
        """Three, in this order: the checkpoint; a folder with config and tokenizer of the Qwen2-VL that it was trained
        from; the authors' Python file with the text that follows the frames."""
        dtype: Literal["bfloat16", "float32"] = "bfloat16"
        """Data type of the network; the head always computes in float32."""

        def _disagreements(self) -> Iterator[tuple[str, str]]:
            if len(self.weights) != 3:
                needed = "the checkpoint, the folder of its Qwen2-VL, and the authors' Python file of the text"
                yield "weights", f"{len(self.weights)} given; three are needed, in this order: {needed}"

    @classmethod
    def check(cls, options: Section) -> None:
        """Check as `files` does, but accept published weights that are not fetched yet."""
        assert isinstance(options, RewardModelScorer.Options)
        checkpoint, base, text = options.weights
        check_file(checkpoint)
        with suppress(NotFetched):
            _check_base(base, cls.hub_files)
        with suppress(NotFetched):
            cls.text.read(_file(text))

    @classmethod
    def files(cls, options: Section) -> RewardFiles:
        """Return the paths of the weights and the text.

        Raises:
            InputError: a file is missing or of another kind, or the weights are not fetched.
        """
        assert isinstance(options, RewardModelScorer.Options)
        checkpoint, base, text = options.weights
        check_file(checkpoint)
        return RewardFiles(resolve(checkpoint), _check_base(base, cls.hub_files), cls.text.read(_file(text)))


def _file(location: str) -> Path:
    path = resolve(location)
    if not path.is_file():
        raise InputError(
            f"weights: {location!r} is not a file; the third entry is the authors' Python file of the text"
        )
    return path


def _check_base(location: str, patterns: Sequence[str]) -> Path:
    needs = "the second entry is a folder with config.json and the tokenizer of Qwen2-VL"
    if location.startswith(PUBLIC_PREFIX):
        raise InputError(f"weights: {location!r} is a file; {needs}")
    folder = resolve(location)
    if not (folder / "config.json").is_file():
        raise InputError(f"weights: {location!r} has no config.json; {needs}")
    if not any((folder / name).is_file() for name in ("tokenizer.json", "vocab.json")):
        raise InputError(f"weights: {location!r} has no tokenizer.json; {needs}")
    refuse_downloads(folder, tuple(patterns), "weights")
    found = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    if found != "qwen2_vl":
        raise InputError(f"weights: {location!r} is a model of type {found!r}; {needs}")
    return folder
