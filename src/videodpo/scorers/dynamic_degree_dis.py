"""Dynamic degree by OpenCV's DIS flow: amount of motion. VBench's own score is 0 or 1, from RAFT."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip, Scorer
from videodpo.scorers.shared.dis_flow import DisFlow, look_up

RETURN_SHARE, RETURN_SIDE = 0.05, 1 / 128  # tolerance of forward + backward flow: 5 % of the length + 1/128 of the side


class DynamicDegreeDis(Scorer):
    """Mean of the largest 5 % of flow lengths between neighbouring frames, in units of the frame's shorter side.

    A still clip scores 0. An object that crosses a twentieth of the frame between two frames scores 0.05. The score is
    continuous and has no upper bound. Flicker does not count as motion: frames are normalised to the clip's mean
    brightness, and flow that the backward flow does not undo counts as 0. A shaking camera counts as motion; the
    smoothness scorers penalise it.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        self._dis = DisFlow()

    def score(self, clip: Clip) -> float:
        """Score a clip; raise InputError if it has only one frame."""
        if len(clip.frames_THWC) < 2:
            raise InputError("dynamic_degree_dis needs at least 2 frames, the clip has 1")
        gray_THW = _even_exposure(self._dis.gray(self._dis.prepare(clip.frames_THWC)))
        lengths = [_largest(self._lengths(before, after)) for before, after in pairwise(gray_THW)]
        return float(np.mean(lengths) / min(gray_THW.shape[1:]))

    def _lengths(self, before_HW: np.ndarray, after_HW: np.ndarray) -> np.ndarray:
        forward, backward = self._dis.flow(before_HW, after_HW), self._dis.flow(after_HW, before_HW)
        lengths = np.linalg.norm(forward, axis=2)
        left_over = np.linalg.norm(forward + look_up(backward, forward), axis=2)
        # In smooth regions, noise determines the flow. Without this, flicker in the demo world had twice the motion.
        return np.where(left_over < RETURN_SHARE * lengths + min(lengths.shape) * RETURN_SIDE, lengths, 0.0)


def _even_exposure(gray_THW: np.ndarray) -> np.ndarray:
    means_T = gray_THW.mean(axis=(1, 2))
    gains_T = means_T.mean() / np.maximum(means_T, 1.0)  # 1.0: a black frame has no exposure to correct
    evened_THW: np.ndarray = np.clip(np.rint(gray_THW * gains_T[:, None, None]), 0, 255).astype(np.uint8)
    return evened_THW


def _largest(lengths_HW: np.ndarray) -> float:
    """Return the mean of the largest 5 %, as VBench does, so that a small moving object counts."""
    count = max(1, lengths_HW.size // 20)
    return float(np.partition(lengths_HW.ravel(), -count)[-count:].mean(dtype=np.float64))
