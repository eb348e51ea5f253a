"""Agreement of single frames with the prompt: the mean dot product of frame and prompt embeddings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import FrameBackbone, NetworkScorer
from videodpo.scorers.shared.middle_frames import NUM_FRAMES, distinct_frames

if TYPE_CHECKING:
    import torch


class PromptFrames(FrameBackbone):
    """Embeddings of an image model of length 1, [D] per frame."""

    def __init__(self, device: str, frames_per_batch: int, num_frames: int | None) -> None:
        """Set the batch size and the parts.

        Args:
            device: name of the torch device.
            frames_per_batch: as for `FrameBackbone`.
            num_frames: number of frames as for `distinct_frames`. All scorers of a backbone use the same frames.
        """
        super().__init__(device, frames_per_batch)
        self.num_frames = num_frames

    @abstractmethod
    def text(self, text: str) -> torch.Tensor:
        """Return the prompt's vector [D], on the CPU, for the dot product with frame embeddings."""


class PromptFramesScorer(NetworkScorer):
    """Mean over frames. An empty prompt is refused."""

    backbone: PromptFrames

    class Options(NetworkScorer.Options):
        """Number of frames."""

        num_frames: Annotated[int, Field(ge=1)] | None = NUM_FRAMES
        """Number of frames: the middles of equal intervals; a shorter clip uses all. null uses every frame."""

    def refuse(self, clip: Clip) -> None:
        if not clip.prompt.strip():
            raise InputError("a prompt is needed; the clip's prompt is empty")

    def wanted(self, clip: Clip, outputs: Mapping[int, torch.Tensor]) -> Iterable[int]:
        return self._numbers(clip)

    def value(self, clip: Clip, outputs: Mapping[int, torch.Tensor]) -> float:
        import torch

        frames_TD = torch.stack([outputs[number] for number in self._numbers(clip)]).double()
        return float((frames_TD @ self.backbone.text(clip.prompt).double()).mean())

    def _numbers(self, clip: Clip) -> list[int]:
        return distinct_frames(len(clip.frames_THWC), self.backbone.num_frames)
