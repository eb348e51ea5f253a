"""Imaging quality as strength of edges above the noise, without a network. VBench uses MUSIQ instead."""

from __future__ import annotations

import numpy as np

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip, Scorer

LONGER_SIDE = 512  # larger frames are scaled down, so that the score does not depend on the resolution alone
# For white noise of deviation s, Sobel / 4 has Rayleigh lengths with scale 0.87 s; the mean of the top 5 % is 2.4 s.
_NOISE_EDGE = 2.4
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)  # Immerkaer 1996: blind to edges


class ImagingQualitySharpness(Scorer):
    """Mean over all frames of the largest 5 % of luma gradients (Tenengrad), minus the share due to noise; 0..1.

    An edge from black to white within one pixel scores 1, pure noise about 0. Blur, haze and low contrast lower the
    score. It is meant to compare clips of the same prompt: a scene with little contrast always scores low, and fine
    texture that fills more than half of the frame counts as noise.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        pass

    def score(self, clip: Clip) -> float:
        if min(clip.frames_THWC.shape[1:3]) < 3:
            raise InputError("imaging_quality_sharpness needs frames of at least 3 x 3 pixels")
        return float(np.mean([_frame_quality(frame) for frame in clip.frames_THWC]))


def _frame_quality(frame_HWC: np.ndarray) -> float:
    import cv2

    luma = cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY)
    scale = LONGER_SIDE / max(luma.shape)
    if scale < 1:
        size = (max(3, round(luma.shape[1] * scale)), max(3, round(luma.shape[0] * scale)))
        luma = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    gray = luma.astype(np.float32)
    edges = np.hypot(cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)) / 4
    count = max(1, edges.size // 20)
    strength = np.partition(edges.ravel(), -count)[-count:].mean(dtype=np.float64)
    # The median excludes edges. 6 is the kernel's norm, 0.6745 the median absolute deviation of a normal variable.
    noise = np.median(np.abs(cv2.filter2D(gray, cv2.CV_32F, _NOISE_KERNEL)[1:-1, 1:-1])) / (6 * 0.6745)
    return float(np.clip((strength - _NOISE_EDGE * noise) / 255.0, 0.0, 1.0))
