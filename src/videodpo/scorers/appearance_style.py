"""Appearance style, as VBench defines it: similarity of CLIP ViT-B/32's embeddings of all frames and of the style."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.clip_b32 import ClipB32Scorer
from videodpo.scorers.shared.file_weights import file_of

if TYPE_CHECKING:
    import torch


class AppearanceStyle(ClipB32Scorer):
    """Mean over all frames of the logit of frame and style, divided by 100: about 0 to 0.3.

    The style is `clip.info["appearance_style"]`, for example "Van Gogh style"; the prompt is not read. With OpenAI's
    weights the logit is 100 times the cosine. Weights: OpenAI's `ViT-B-32.pt`. A clip without a style is refused.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.clip import ClipImages

        self._clip = ClipImages.shared(self.architecture, file_of(options), choose_device(device))
        self.backbone = self._clip

    def value(self, clip: Clip, outputs: Mapping[int, torch.Tensor]) -> float:
        import torch

        frames_TD = torch.stack([outputs[number] for number in range(len(clip.frames_THWC))]).double()
        return float((frames_TD @ self._clip.text(clip.info["appearance_style"]).double()).mean() / 100)
