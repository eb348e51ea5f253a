"""Motion smoothness by OpenCV's DIS flow: how well neighbours predict a frame. VBench uses AMT-S instead."""

from __future__ import annotations

import numpy as np

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip, Scorer
from videodpo.scorers.shared.dis_flow import DisFlow, look_up


class MotionSmoothnessDis(Scorer):
    """(255 - mean absolute error) / 255 of odd frames predicted from their two neighbours: 0..1, higher is smoother.

    Each neighbour is warped by half its flow towards the other, and the two are averaged. This is correct for uniform
    motion, and wrong where things shake, jump or flicker. Frames 0 and 2 predict frame 1, frames 2 and 4 predict frame
    3. With an even number of frames, the last one is not used, as in VBench. A still clip scores 1. The background
    counts as much as moving objects. The error is measured at the size of `DisFlow.prepare`.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        self._dis = DisFlow()

    def score(self, clip: Clip) -> float:
        """Score a clip; raise InputError if it has fewer than 3 frames."""
        if len(clip.frames_THWC) < 3:
            raise InputError(f"motion_smoothness_dis needs at least 3 frames, the clip has {len(clip.frames_THWC)}")
        frames = self._dis.prepare(clip.frames_THWC)
        gray = self._dis.gray(frames)
        errors = []
        for odd in range(1, len(frames) - 1, 2):
            before, after = odd - 1, odd + 1
            # Backward warping with the flow at the target pixel: exact where neighbouring pixels move alike.
            forward = look_up(frames[before], -self._dis.flow(gray[before], gray[after]) / 2)
            backward = look_up(frames[after], -self._dis.flow(gray[after], gray[before]) / 2)
            errors.append(np.abs((forward + backward) / 2 - frames[odd]).mean(dtype=np.float64))
        return float((255.0 - np.mean(errors)) / 255.0)
