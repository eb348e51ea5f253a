"""Motion smoothness, as VBench defines it: how well AMT-S interpolates every second frame from its neighbours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.file_weights import FileWeightsScorer, file_of


class MotionSmoothness(FileWeightsScorer):
    """(255 - mean absolute error of interpolated frames) / 255: 0..1.

    Frame 1 is interpolated from frames 0 and 2, frame 3 from 2 and 4, and so on. With an even number of frames, the
    last one is not used. Weights: `amt-s.pth` (CC BY-NC-SA 4.0). A clip of fewer than 3 frames is refused.
    """

    version = "3"

    class Options(FileWeightsScorer.Options):
        """Weights of AMT-S."""

        weights: str = "public:amt-s.pth"
        """Weights file, in the authors' format or safetensors; or `public:<file>`."""

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.interpolation import InterpolationErrors

        self.backbone = InterpolationErrors.shared(file_of(options), choose_device(device))

    def refuse(self, clip: Clip) -> None:
        if len(clip.frames_THWC) < 3:
            raise InputError(f"motion_smoothness needs at least 3 frames, the clip has {len(clip.frames_THWC)}")

    def value(self, clip: Clip, outputs: Mapping[int, float]) -> float:
        return float((255.0 - np.mean([outputs[k] for k in range(self.backbone.num_parts(clip))])) / 255.0)
