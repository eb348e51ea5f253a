"""Temporal flickering by VBench's own definition. It needs no network, so the score equals VBench's."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip, Scorer


class TemporalFlickering(Scorer):
    """(255 - mean absolute difference of neighbouring frames) / 255: 0..1; a still clip scores 1.

    All frames are used at their native size, as in VBench 0.1.5. VBench intends this score for still scenes; motion
    also lowers it.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        import cv2

        self._cv2 = cv2

    def score(self, clip: Clip) -> float:
        """Score a clip; raise InputError if it has only one frame."""
        frames = clip.frames_THWC
        if len(frames) < 2:
            raise InputError("temporal_flickering needs at least 2 frames, the clip has 1")
        norm, kind = self._cv2.norm, self._cv2.NORM_L1  # sums of integers are exact
        differences = [norm(before, after, kind) / before.size for before, after in pairwise(frames)]
        return float((255.0 - np.mean(differences)) / 255.0)
