"""Imaging quality, as VBench defines it: MUSIQ trained on SPAQ, frame by frame.

Legend: P frames, C channel, H, W pixels; L patches, X what is known of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from videodpo.config import Section
from videodpo.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import FrameBackbone, Part
from videodpo.scorers.shared.file_weights import FileWeightsScorer, file_of

LONGEST = 512


class MusiqFrames(FrameBackbone):
    """MUSIQ's score, 0..100, of every frame.

    One whose longer side exceeds 512 is brought to it, bilinear without antialias.
    """

    def __init__(self, weights: Path, device: str) -> None:
        from videodpo.scorers.networks.musiq import Musiq

        super().__init__(device, frames_at_once=1)
        self._musiq = Musiq(weights, device)

    def refuse(self, clip: Clip) -> None:
        height, width = clip.frames_THWC.shape[1:3]
        if LONGEST * min(height, width) < max(height, width):
            raise ValueError(f"MUSIQ sees frames of at most 512 pixels: {width} x {height} is too narrow")

    def answer(self, parts: Sequence[Part]) -> list[float]:
        import torch.nn.functional as F

        frames = self.frames(parts).float()
        height, width = frames.shape[-2:]
        longer = max(height, width)
        if longer > LONGEST:
            scale = LONGEST / longer  # rounded before it is used: some sizes come out one pixel smaller, as in VBench
            size = (int(scale * height), int(scale * width))
            frames = F.interpolate(frames, size, mode="bilinear", antialias=False)
        scores: list[float] = self._musiq.scores(frames / 255).tolist()
        return scores


class ImagingQuality(FileWeightsScorer):
    """Mean over frames; 0..100, as VBench gives it before it divides by 100: `max: 100` in omniscore.dimensions.

    Weights: `musiq_spaq_ckpt-358bb6af.pth`. pyiqa, which has the network, is PolyForm-Noncommercial 1.0.0.
    """

    version = "3"

    class Options(FileWeightsScorer.Options):
        """MUSIQ's weights."""

        weights: str = "public:musiq_spaq_ckpt-358bb6af.pth"
        """File, as its authors publish it or safetensors; or `public:<file>`."""

    def __init__(self, options: Section, device: str) -> None:
        self.backbone = MusiqFrames(file_of(options), choose_device(device))

    def value(self, clip: Clip, answers: Mapping[int, float]) -> float:
        return float(np.mean([answers[number] for number in range(len(clip.frames_THWC))]))
