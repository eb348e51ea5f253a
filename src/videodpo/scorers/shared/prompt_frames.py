"""How well frames fit a prompt, one by one: the mean of products of a frame's and the prompt's embedding."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import FrameBackbone, NetworkScorer
from videodpo.scorers.shared.middle_frames import NUM_FRAMES, middle_frames

if TYPE_CHECKING:
    import torch


class PromptFrames(FrameBackbone):
    """An image model's embeddings of length 1, [D] a frame."""

    @abstractmethod
    def text(self, text: str) -> torch.Tensor:
        """What a frame's embedding is multiplied by, on the CPU, [D]."""


class PromptFramesScorer(NetworkScorer):
    """The mean over frames; an empty prompt is refused."""

    backbone: PromptFrames
    num_frames: int | None

    class Options(NetworkScorer.Options):
        """Frames that are looked at."""

        num_frames: Annotated[int, Field(ge=1)] | None = NUM_FRAMES
        """The middles of so many equal intervals, of a shorter clip every frame; null: every frame of any clip."""

    def refuse(self, clip: Clip) -> None:
        if not clip.prompt.strip():
            raise InputError("a prompt is needed, this one is empty")

    def wanted(self, clip: Clip, answers: Mapping[int, torch.Tensor]) -> Iterable[int]:
        return self._numbers(clip)

    def value(self, clip: Clip, answers: Mapping[int, torch.Tensor]) -> float:
        import torch

        frames_TD = torch.stack([answers[number] for number in self._numbers(clip)]).double()
        return float((frames_TD @ self.backbone.text(clip.prompt).double()).mean())

    def _numbers(self, clip: Clip) -> list[int]:
        total = len(clip.frames_THWC)
        return list(range(total)) if self.num_frames is None else sorted(set(middle_frames(total, self.num_frames)))
