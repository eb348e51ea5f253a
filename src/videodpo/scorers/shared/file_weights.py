"""Base of scorers whose weights are one file."""

from __future__ import annotations

from pathlib import Path

from videodpo.config import HUB_PREFIX, Section
from videodpo.config.errors import InputError
from videodpo.scorers.base import Scorer
from videodpo.scorers.shared.backbone import NetworkScorer
from videodpo.weights.contents import download_fault, refuse_fault
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


def file_in(location: str, name: str) -> Path:
    """Return the path of a file that is named itself, or by the folder or repository that contains it.

    Args:
        location: a path, `public:<file>` or `hub:<org>/<name>@<commit>`.
        name: name of the file in a folder or repository.

    Raises:
        InputError: there is no such file, it is a failed download, or the weights are not fetched.
    """
    path = resolve(location)
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise InputError(f"weights: {location!r} is neither a file nor a folder with {name}")
    if fault := download_fault(file):
        raise InputError(f"weights: {file} {fault}")
    return file
