"""Temporal flickering, by VBench's own definition: no network, so the number is VBench's."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip, Scorer


class TemporalFlickering(Scorer):
    """(255 - mean absolute difference of neighbouring frames) / 255: 0..1, a still clip has 1.

    Every frame at its native size, as in VBench 0.1.5. It was meant for still scenes and punishes motion too.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        import cv2

        self._cv2 = cv2

    def score(self, clip: Clip) -> float:
        """Raises InputError for a one-frame clip, which has no neighbours."""
        frames = clip.frames_THWC
        if len(frames) < 2:
            raise InputError("temporal_flickering needs at least 2 frames, the clip has 1")
        norm, kind = self._cv2.norm, self._cv2.NORM_L1  # whole numbers, added without error
        differences = [norm(before, after, kind) / before.size for before, after in pairwise(frames)]
        return float((255.0 - np.mean(differences)) / 255.0)
