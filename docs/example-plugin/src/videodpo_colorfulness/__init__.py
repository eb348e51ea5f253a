"""Colourfulness of a clip by the statistics of two colour-opponent channels; no network."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from videodpo.config import Section
from videodpo.scorers.base import Clip, Scorer


class Colorfulness(Scorer):
    """Mean over frames of sigma + 0.3 * mu: 0 is grey, 109 is what people called extremely colourful.

    sigma and mu are the lengths of the vectors of standard deviations and of means, over a frame's pixels, of
    red - green and (red + green) / 2 - blue, with sRGB in 0..255. Hasler and Suesstrunk, "Measuring colourfulness in
    natural images" (2003), metric M3.
    """

    version = "1"

    class Options(Scorer.Options):
        """Options of colorfulness."""

        every: int = Field(1, ge=1)
        """Score the first frame and every n-th after it; 1 or more."""

    def __init__(self, options: Section, device: str) -> None:
        assert isinstance(options, Colorfulness.Options)
        self._every = options.every

    def score(self, clip: Clip) -> float:
        """Any clip has a score."""
        return float(np.mean([_colorfulness(frame) for frame in clip.frames_THWC[:: self._every]]))


def _colorfulness(frame_HWC: np.ndarray) -> float:
    red_HW, green_HW, blue_HW = np.moveaxis(frame_HWC.astype(np.float64), -1, 0)
    opponents = red_HW - green_HW, (red_HW + green_HW) / 2 - blue_HW
    sigma = np.hypot(*(channel.std() for channel in opponents))
    mu = np.hypot(*(channel.mean() for channel in opponents))
    return float(sigma + 0.3 * mu)
