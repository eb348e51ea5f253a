"""Base of HPSv3's dimensions, which share one pass of the network per frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.middle_frames import NUM_FRAMES
from videodpo.scorers.shared.reward_model import RewardModelScorer
from videodpo.scorers.shared.reward_text import HPSV3

TOP_SHARE = 0.3


class Hpsv3Scorer(RewardModelScorer):
    """HPSv3's answers about the frames that count. An empty prompt is refused, unless `prompt` replaces it."""

    text = HPSV3

    class Options(RewardModelScorer.Options):
        """Weights, frames, and the reduction to one number."""

        weights: list[str] = Field(
            [
                "public:HPSv3.safetensors",
                "hub:Qwen/Qwen2-VL-7B-Instruct@eed13092ef92e448dd6875b2a00151bd3f7db0ac",
                "public:HPSv3_data_collator_qwen.py",
            ]
        )
        """Three, in this order: `HPSv3.safetensors`; a folder with config and tokenizer of Qwen2-VL-7B-Instruct; the
        authors' Python file with the text that follows the frame."""
        num_frames: Annotated[int, Field(ge=1)] | None = NUM_FRAMES
        """Number of frames: the middles of equal intervals; a shorter clip uses all. null uses every frame."""
        reduction: Literal["mean", "top_30_percent"] = "mean"
        """Frames that count: all, or the 30 % with the highest mean preference, at least one."""
        prompt: Annotated[str, Field(min_length=1)] | None = None
        """Text in place of the clips' prompts, for example `A high-quality image`; null is the clip's own."""

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.hpsv3 import Hpsv3Frames

        assert isinstance(options, Hpsv3Scorer.Options)
        self._needs_prompt, self._reduction = options.prompt is None, options.reduction
        self.backbone = Hpsv3Frames.shared(
            self.files(options), choose_device(device), options.dtype, options.num_frames, options.prompt
        )

    def refuse(self, clip: Clip) -> None:
        if self._needs_prompt and not clip.prompt.strip():
            raise InputError("HPSv3 needs a prompt, this one is empty")

    def counted(self, outputs: Mapping[int, tuple[float, float]]) -> list[tuple[float, float]]:
        """Return (mean, log sigma) of the frames that count, the highest mean first."""
        ranked = sorted(outputs.values(), reverse=True)
        return ranked[: max(1, int(TOP_SHARE * len(ranked)))] if self._reduction == "top_30_percent" else ranked
