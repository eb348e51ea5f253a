"""Imaging quality as strength of edges above the noise, without a network. VBench uses MUSIQ instead."""

from __future__ import annotations

import numpy as np

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip, Scorer

LONGER_SIDE = 512  # larger frames are scaled down, so that the score does not depend on the resolution alone
# For independent white noise of deviation s in each channel, the top 5 % of the strongest channel's Sobel / 4 average
# 2.74 s (2.44 s if the channels share their noise).
_NOISE_EDGE = 2.74
_NOISE_KERNEL = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)  # Immerkaer 1996: blind to edges


class ImagingQualitySharpness(Scorer):
    """Mean over all frames of the largest 5 % of gradients (Tenengrad), minus the share due to noise; 0..1.

    The gradient of a pixel is that of its strongest colour channel. Luma would rank a red object far below a white one
    with the same edge, and a model that is trained on the score would turn its objects white.

    An edge from black to white within one pixel scores 1, pure noise about 0. Blur, haze and low contrast lower the
    score. It is meant to compare clips of the same prompt: a scene with little contrast always scores low, and fine
    texture that fills more than half of the frame counts as noise.
    """

    version = "2"

    def __init__(self, options: Section, device: str) -> None:
        pass

    def score(self, clip: Clip) -> float:
        if min(clip.frames_THWC.shape[1:3]) < 3:
            raise InputError("imaging_quality_sharpness needs frames of at least 3 x 3 pixels")
        return float(np.mean([_frame_quality(frame) for frame in clip.frames_THWC]))


def _frame_quality(frame_HWC: np.ndarray) -> float:
    import cv2

    height, width = frame_HWC.shape[:2]
    scale = LONGER_SIDE / max(height, width)
    if scale < 1:
        size = (max(3, round(width * scale)), max(3, round(height * scale)))
        frame_HWC = cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA)
    pixels_HWC = frame_HWC.astype(np.float32)
    gradients_HWC = np.hypot(cv2.Sobel(pixels_HWC, cv2.CV_32F, 1, 0), cv2.Sobel(pixels_HWC, cv2.CV_32F, 0, 1)) / 4
    edges_HW = gradients_HWC.max(axis=2)
    count = max(1, edges_HW.size // 20)
    strength = np.partition(edges_HW.ravel(), -count)[-count:].mean(dtype=np.float64)
    # The median excludes edges. 6 is the kernel's norm, 0.6745 the median absolute deviation of a normal variable.
    residuals_HWC = np.abs(cv2.filter2D(pixels_HWC, cv2.CV_32F, _NOISE_KERNEL)[1:-1, 1:-1])
    noise = np.median(residuals_HWC, axis=(0, 1)).max() / (6 * 0.6745)
    return float(np.clip((strength - _NOISE_EDGE * noise) / 255.0, 0.0, 1.0))
