"""Imaging quality, as VBench defines it: MUSIQ trained on SPAQ, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.file_weights import FileWeightsScorer, file_of


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
        from videodpo.scorers.networks.musiq import MusiqFrames

        assert isinstance(options, ImagingQuality.Options)
        self.backbone = MusiqFrames.shared(file_of(options), choose_device(device))
        self._divisor = 100 if options.as_share else 1

    def value(self, clip: Clip, outputs: Mapping[int, float]) -> float:
        return float(np.mean([outputs[number] for number in range(len(clip.frames_THWC))])) / self._divisor
