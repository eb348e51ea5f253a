"""Base of the scorers that ask GRiT which objects the frames show."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NamedTuple

from pydantic import Field

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import NetworkScorer
from videodpo.scorers.shared.file_weights import file_in
from videodpo.scorers.shared.middle_frames import distinct_frames, middle_frames
from videodpo.weights.contents import refuse_fault
from videodpo.weights.locations import NotFetched

NUM_FRAMES = 16
CHECKPOINT, VOCABULARY = "grit_b_densecap_objectdet.pth", "vocab.txt"
NAMES_ASKED, CAPTIONS_ASKED = ("object", "object_a"), ("color",)  # keys of a clip's info


class Detection(NamedTuple):
    """An object in a frame."""

    box: tuple[int, int, int, int]
    """Left, top, right and bottom, in pixels of the frame that GRiT saw."""
    name: str
    caption: str


class GritScorer(NetworkScorer):
    """A scorer that judges a clip by the objects in 16 frames.

    These are the middles of 16 equal intervals; a shorter clip uses all frames, the last one repeated.

    Attributes:
        needs: keys that the clip's info must have.
        captions: True if the score needs the captions and not the names alone.
    """

    hub_files = (CHECKPOINT, VOCABULARY)
    needs: ClassVar[tuple[str, ...]]
    captions: ClassVar[bool] = False

    class Options(NetworkScorer.Options):
        """Weights of GRiT-B."""

        weights: list[str] = Field(
            [
                "hub:OpenGVLab/VBench_Used_Models@83290ee59b4e2c0a4d198857edbc79dd186b8d44",
                "hub:google-bert/bert-base-uncased@86b5e0934494bd15c9632b12f734a8a67f723594",
            ],
            min_length=2,
            max_length=2,
        )
        """Two, in this order: `grit_b_densecap_objectdet.pth`, and `vocab.txt` of BERT-uncased; each a file, its
        folder, or `hub:<org>/<name>@<commit>`."""

    @classmethod
    def check(cls, options: Section) -> None:
        """Check as `files` does, but accept published weights that are not fetched yet."""
        with suppress(NotFetched):
            cls.files(options)

    @staticmethod
    def files(options: Section) -> tuple[Path, Path]:
        """Return the paths of the checkpoint and the vocabulary.

        Raises:
            InputError: a file is missing or a failed download, or the weights are not fetched.
        """
        assert isinstance(options, GritScorer.Options)
        checkpoint, vocabulary = map(file_in, options.weights, (CHECKPOINT, VOCABULARY))
        refuse_fault(checkpoint)
        return checkpoint, vocabulary

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.grit import GritFrames

        self.backbone = GritFrames.shared(*self.files(options), choose_device(device), self.captions)

    def refuse(self, clip: Clip) -> None:
        if missing := [key for key in self.needs if not clip.info.get(key, "").strip()]:
            raise InputError(f"the clip's info has no {' and no '.join(missing)}; give it with --info")

    def wanted(self, clip: Clip, outputs: Mapping[int, Sequence[Detection]]) -> Iterable[int]:
        return distinct_frames(len(clip.frames_THWC), NUM_FRAMES)

    def value(self, clip: Clip, outputs: Mapping[int, Sequence[Detection]]) -> float:
        return self.score_frames(clip, [outputs[number] for number in middle_frames(len(clip.frames_THWC), NUM_FRAMES)])

    @abstractmethod
    def score_frames(self, clip: Clip, frames: Sequence[Sequence[Detection]]) -> float:
        """Return the score from the objects in each of the 16 frames, best first."""
