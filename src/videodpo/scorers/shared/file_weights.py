"""Base of scorers whose weights are one file."""

from __future__ import annotations

from pathlib import Path

from videodpo.config import HUB_PREFIX, Section
from videodpo.config.errors import InputError
from videodpo.scorers.base import Scorer
from videodpo.scorers.shared.backbone import NetworkScorer
from videodpo.weights.contents import refuse_fault
from videodpo.weights.locations import is_published, resolve


class FileWeights(Scorer):
    """A scorer whose weights are one file."""

    class Options(Scorer.Options):
        """Weights of the network."""

        weights: str
        """Weights file, in the authors' format or safetensors; or `public:<file>`."""

    @staticmethod
    def check(options: Section) -> None:
        assert isinstance(options, FileWeights.Options)
        check_file(options.weights)


class FileWeightsScorer(FileWeights, NetworkScorer):
    """A scorer whose weights are one file, with a backbone that other scorers may share."""


def file_of(options: Section) -> Path:
    """Return the path of the weights; raise InputError if they are not a file, or not fetched."""
    assert isinstance(options, FileWeights.Options)
    check_file(options.weights)
    return resolve(options.weights)


def check_file(location: str) -> None:
    """Raise InputError if a path is not a checkpoint file. Published weights may be fetched later."""
    if is_published(location) and not location.startswith(HUB_PREFIX):
        return
    if location.startswith(HUB_PREFIX) or not Path(location).is_file():
        raise InputError(f"weights: {location!r} is not a file")
    refuse_fault(Path(location))
