"""What the scorers that read one file of weights have in common."""

from __future__ import annotations

from pathlib import Path

from videodpo.config import Section
from videodpo.scorers.backbone import NetworkScorer
from videodpo.scorers.base import Scorer


class FileWeights(Scorer):
    """A scorer whose network's weights are one file."""

    class Options(Scorer.Options):
        """The network's weights."""

        weights: str
        """File: as its authors publish it, or safetensors."""

    @staticmethod
    def weights(options: Section) -> list[str]:
        assert isinstance(options, FileWeights.Options)
        return [options.weights]

    @staticmethod
    def check(options: Section) -> None:
        file_of(options)


class FileWeightsScorer(FileWeights, NetworkScorer):
    """The same, with a backbone that others may share."""


def file_of(options: Section) -> Path:
    """Raises ValueError where the weights are no file."""
    assert isinstance(options, FileWeights.Options)
    path = Path(options.weights)
    if not path.is_file():
        raise ValueError(f"weights: {options.weights!r} is no file")
    return path
