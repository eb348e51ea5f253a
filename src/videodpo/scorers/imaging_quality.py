"""Imaging quality, as VBench defines it: MUSIQ trained on SPAQ, frame by frame.

Legend: P frames, C channel, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import FrameBackbone, Part
from videodpo.scorers.shared.file_weights import FileWeightsScorer, file_of

LONGEST = 512


class MusiqFrames(FrameBackbone):
    """MUSIQ's score of every frame, 0..100.

    Frames with a longer side above 512 are scaled down to it, bilinear without antialias.
    """

    def __init__(self, weights: Path, device: str) -> None:
        from videodpo.scorers.networks.musiq import Musiq

        super().__init__(device, frames_at_once=1)
        self._musiq = Musiq(weights, device)

    def refuse(self, clip: Clip) -> None:
        height, width = clip.frames_THWC.shape[1:3]
        seen = _seen_size(height, width)
        if not all(round(min(seen) * (length / max(seen))) for length in self._musiq.lengths):
            raise InputError(
                f"MUSIQ resizes frames to {self._musiq.lengths[0]} pixels: {width} x {height} is too narrow"
            )

    def answer(self, parts: Sequence[Part]) -> list[float]:
        import torch.nn.functional as F

        frames = self.frames(parts).float()
        height, width = frames.shape[-2:]
        if (seen := _seen_size(height, width)) != (height, width):
            frames = F.interpolate(frames, seen, mode="bilinear", antialias=False)
        scores: list[float] = self._musiq.scores(frames / 255).tolist()
        return scores


def _seen_size(height: int, width: int) -> tuple[int, int]:
    longer = max(height, width)
    if longer <= LONGEST:
        return height, width
    scale = LONGEST / longer  # rounding of the quotient makes some sizes one pixel smaller, as in VBench
    return int(scale * height), int(scale * width)


class ImagingQuality(FileWeightsScorer):
    """Mean over frames, 0..100, so its dimension needs `max: 100`. VBench's table divides by 100.

    Weights: `musiq_spaq_ckpt-358bb6af.pth`. The network is from pyiqa, whose licence is PolyForm-Noncommercial 1.0.0.
    """

    version = "3"

    class Options(FileWeightsScorer.Options):
        """Weights and scale."""

        weights: str = "public:musiq_spaq_ckpt-358bb6af.pth"
        """Weights file, in the authors' format or safetensors; or `public:<file>`."""
        as_share: bool = False
        """Divide by 100, so that scores are in 0..1."""

    def __init__(self, options: Section, device: str) -> None:
        assert isinstance(options, ImagingQuality.Options)
        self.backbone = MusiqFrames.shared(file_of(options), choose_device(device))
        self._divisor = 100 if options.as_share else 1

    def value(self, clip: Clip, answers: Mapping[int, float]) -> float:
        return float(np.mean([answers[number] for number in range(len(clip.frames_THWC))])) / self._divisor
