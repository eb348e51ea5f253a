"""Dynamic degree by OpenCV's DIS flow: how much moves. Not VBench's number, which is one bit from RAFT."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip, Scorer
from videodpo.scorers.shared.dis_flow import DisFlow, look_up

RETURN_SHARE, RETURN_SIDE = 0.05, 1 / 128  # flow there and back may miss by 5 % and by 1/128 of the shorter side


class DynamicDegreeDis(Scorer):
    """Mean, over neighbouring frames, of the largest 5 % of flow lengths, in shorter sides of the frame a frame step.

    0 is a still clip; 0.05 is an object that crosses a twentieth of the frame between two frames. Continuous and
    unbounded above. Not fooled by flicker: frames are brought to the clip's mean brightness, and flow that the flow
    back does not undo counts as 0. A shaking camera is motion too; smoothness is what tells it.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        self._dis = DisFlow()

    def score(self, clip: Clip) -> float:
        """Raises InputError for a one-frame clip, which has no neighbours."""
        if len(clip.frames_THWC) < 2:
            raise InputError("dynamic_degree_dis needs at least 2 frames, the clip has 1")
        gray_THW = _even_exposure(self._dis.gray(self._dis.prepare(clip.frames_THWC)))
        lengths = [_largest(self._lengths(before, after)) for before, after in pairwise(gray_THW)]
        return float(np.mean(lengths) / min(gray_THW.shape[1:]))

    def _lengths(self, before_HW: np.ndarray, after_HW: np.ndarray) -> np.ndarray:
        forward, backward = self._dis.flow(before_HW, after_HW), self._dis.flow(after_HW, before_HW)
        lengths = np.linalg.norm(forward, axis=2)
        left_over = np.linalg.norm(forward + look_up(backward, forward), axis=2)
        # Smooth regions have any flow that their noise asks for: on the demo world, flicker had twice the motion.
        return np.where(left_over < RETURN_SHARE * lengths + min(lengths.shape) * RETURN_SIDE, lengths, 0.0)


def _even_exposure(gray_THW: np.ndarray) -> np.ndarray:
    means_T = gray_THW.mean(axis=(1, 2))
    gains_T = means_T.mean() / np.maximum(means_T, 1.0)  # 1.0: a black frame has no exposure to correct
    evened_THW: np.ndarray = np.clip(np.rint(gray_THW * gains_T[:, None, None]), 0, 255).astype(np.uint8)
    return evened_THW


def _largest(lengths_HW: np.ndarray) -> float:
    """Mean of the largest 5 %, as VBench takes it, so that a small moving object counts."""
    count = max(1, lengths_HW.size // 20)
    return float(np.partition(lengths_HW.ravel(), -count)[-count:].mean(dtype=np.float64))
