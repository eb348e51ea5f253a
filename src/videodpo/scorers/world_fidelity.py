"""Similarity of a clip to the nearest clip of the demo world. It needs no network and does not read the prompt."""

from __future__ import annotations

import numpy as np

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip, Scorer


class WorldFidelity(Scorer):
    """Similarity to the nearest clip that the demo world can draw, 0..1.

    The score is the mean of two similarities. One compares frames as deviations from the background of the nearest
    clip. The other compares motion as deviations from each pixel's mean over time. The similarity of deviations a and b
    is max(0, 1 - |a - b|^2 / (|a|^2 + |b|^2)). It measures objects, not the frame: a clip without its object scores 0,
    as noise does. The motion of a still clip scores 0, because something always moves in the demo world.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        """Take no options; the fit runs on the CPU."""

    def score(self, clip: Clip) -> float:
        """Score a clip; raise InputError if it does not have the size of the demo world's clips."""
        from videodpo.demo_world.fit import nearest_clip
        from videodpo.demo_world.render import NUM_FRAMES, SIZE

        frames, height, width, _ = clip.frames_THWC.shape
        if (frames, height, width) != (NUM_FRAMES, SIZE, SIZE):
            raise InputError(
                f"world_fidelity: the clip has {frames} frames of {height} x {width}; it judges clips of the demo "
                f"world only, {NUM_FRAMES} frames of {SIZE} x {SIZE}"
            )
        nearest = nearest_clip(clip.frames_THWC)
        shown, drawn = clip.frames_THWC / 255.0, nearest.clip_THW3.astype(float)
        ground = nearest.background_H3[:, None]
        pictures = _similarity(shown - ground, drawn - ground)
        motion = _similarity(shown - shown.mean(axis=0), drawn - drawn.mean(axis=0))
        return (pictures + motion) / 2


def _similarity(one: np.ndarray, two: np.ndarray) -> float:
    return max(0.0, 1 - float(np.square(one - two).sum() / (np.square(one).sum() + np.square(two).sum())))
