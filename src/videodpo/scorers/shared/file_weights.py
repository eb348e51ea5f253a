"""What the scorers that read one file of weights have in common."""

from __future__ import annotations

from pathlib import Path

from videodpo.config import HUB_PREFIX, Section
from videodpo.config.errors import InputError
from videodpo.scorers.base import Scorer
from videodpo.scorers.shared.backbone import NetworkScorer
from videodpo.weights.contents import refuse_fault
from videodpo.weights.locations import is_published, resolve


class FileWeights(Scorer):
    """A scorer whose network's weights are one file."""

    class Options(Scorer.Options):
        """The network's weights."""

        weights: str
        """File, as its authors publish it or safetensors; or `public:<file>`."""

    @staticmethod
    def check(options: Section) -> None:
        assert isinstance(options, FileWeights.Options)
        check_file(options.weights)


class FileWeightsScorer(FileWeights, NetworkScorer):
    """The same, with a backbone that others may share."""


def file_of(options: Section) -> Path:
    """Raises InputError where the weights are no file, or not fetched."""
    assert isinstance(options, FileWeights.Options)
    check_file(options.weights)
    return resolve(options.weights)


def check_file(location: str) -> None:
    """Raises InputError where a path leads to no file, or to no checkpoint; what is published may be fetched later."""
    if is_published(location) and not location.startswith(HUB_PREFIX):
        return
    if location.startswith(HUB_PREFIX) or not Path(location).is_file():
        raise InputError(f"weights: {location!r} is no file")
    refuse_fault(Path(location))
