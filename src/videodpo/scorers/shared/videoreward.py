"""Base of VideoReward's three dimensions, which share one pass of the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.reward_model import RewardModelScorer
from videodpo.scorers.shared.reward_text import VIDEOREWARD


class VideoRewardScorer(RewardModelScorer):
    """One of VideoReward's answers, standardised as its authors do: 0 is their mean, 1 their standard deviation.

    Attributes:
        index: index of the answer.
        mean, std: the authors' mean and standard deviation of the head's output.
    """

    text = VIDEOREWARD
    index: ClassVar[int]
    mean: ClassVar[float]
    std: ClassVar[float]

    class Options(RewardModelScorer.Options):
        """Weights and scale."""

        weights: list[str] = Field(
            [
                "public:VideoReward.pth",
                "hub:Qwen/Qwen2-VL-2B-Instruct@895c3a49bc3fa70a340399125c650a463535e71c",
                "public:VideoReward_prompt_template.py",
            ]
        )
        """Three, in this order: `model.pth` of the authors; a folder with config and tokenizer of Qwen2-VL-2B-Instruct;
        the authors' Python file with the text that follows the frames."""
        standardize: bool = True
        """False gives the head's output. The authors' mean and standard deviation only fit their own checkpoint."""

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.videoreward import VideoRewardClips

        assert isinstance(options, VideoRewardScorer.Options)
        self.backbone = VideoRewardClips.shared(self.files(options), choose_device(device), options.dtype)
        self._standardize = options.standardize

    def value(self, clip: Clip, outputs: Mapping[int, tuple[float, ...]]) -> float:
        raw = outputs[0][self.index]
        return (raw - self.mean) / self.std if self._standardize else raw
