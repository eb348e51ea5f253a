"""Base of scorers whose network is a reward model on Qwen2-VL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from videodpo.config import Section
from videodpo.scorers.shared.backbone import NetworkScorer
from videodpo.scorers.shared.file_weights import check_file, file_in
from videodpo.scorers.shared.folder_weights import transformers_folder
from videodpo.scorers.shared.reward_text import RewardText
from videodpo.weights.locations import NotFetched, resolve


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
            cls._base(base)
        with suppress(NotFetched):
            cls._text(text)

    @classmethod
    def files(cls, options: Section) -> RewardFiles:
        """Return the paths of the weights and the text.

        Raises:
            InputError: a file is missing or of another kind, or the weights are not fetched.
        """
        assert isinstance(options, RewardModelScorer.Options)
        checkpoint, base, text = options.weights
        check_file(checkpoint)
        return RewardFiles(resolve(checkpoint), cls._base(base), cls._text(text))

    @classmethod
    def _base(cls, location: str) -> Path:
        needs = "the second entry is a folder with config.json and the tokenizer of Qwen2-VL"
        return transformers_folder(location, ("tokenizer.json", "vocab.json"), cls.hub_files, "qwen2_vl", needs)

    @classmethod
    def _text(cls, location: str) -> str:
        return cls.text.read(file_in(location, cls.text.file))
