"""Scorers without a network: exact values where they are known, otherwise clean clips against defects."""

from __future__ import annotations

import numpy as np
import pytest

from videodpo.config import Section
from videodpo.runtime import registry
from videodpo.scorers.base import Clip, Scorer

PLAIN = ("temporal_flickering", "dynamic_degree_dis", "motion_smoothness_dis", "imaging_quality_sharpness")

FEW = 6  # scenes: optical flow is slow


def make(name: str) -> Scorer:
    return registry.load("videodpo.scorers", name)(Section(), "cpu")


def share_lower(name: str, clean: list[Clip], worse: list[Clip]) -> float:
    """Share of the first scenes in which the second list's clip scores lower."""
    scorer = make(name)
    return float(np.mean([scorer.score(b) < scorer.score(a) for a, b in zip(clean[:FEW], worse[:FEW], strict=True)]))


def test_flickering_of_levels_0_10_40_equals_the_hand_computed_value():
    levels = np.array([0, 10, 40], np.uint8).reshape(3, 1, 1, 1)
    clip = Clip(np.broadcast_to(levels, (3, 4, 6, 3)), 8.0, "")
    assert make("temporal_flickering").score(clip) == pytest.approx((255 - (10 + 30) / 2) / 255, abs=1e-12)


def test_flickering_does_not_wrap_around_in_uint8():
    frames = np.stack([np.full((2, 2, 3), 250, np.uint8), np.full((2, 2, 3), 5, np.uint8)])
    assert make("temporal_flickering").score(Clip(frames, 8.0, "")) == pytest.approx(10 / 255, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "defect"),
    [
        ("temporal_flickering", "flicker"),
        ("motion_smoothness_dis", "shake"),
        ("motion_smoothness_dis", "flicker"),
        ("imaging_quality_sharpness", "haze"),
        ("dynamic_degree_dis", "freeze"),
    ],
)
def test_defect_lowers_its_dimension_in_every_scene(name, defect, clips_of):
    assert share_lower(name, clips_of(None), clips_of(defect)) == 1.0


def test_flicker_adds_little_motion(clips_of):
    scorer = make("dynamic_degree_dis")
    clean, flicker = (np.mean([scorer.score(clip) for clip in clips_of(kind)]) for kind in (None, "flicker"))
    assert 0.9 * clean < flicker < 1.25 * clean


def test_dynamic_degree_of_a_texture_that_moves_3_of_120_pixels_per_frame_is_a_fortieth():
    import cv2

    texture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (160, 240, 3), dtype=np.uint8), (0, 0), 3)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    frames = np.stack([texture[20:140, 20 + 3 * t : 180 + 3 * t] for t in range(4)])
    assert make("dynamic_degree_dis").score(Clip(frames, 8.0, "")) == pytest.approx(3 / 120, rel=0.1)


@pytest.mark.parametrize("channels", [1, 3], ids=["gray", "coloured"])
def test_noise_is_not_sharp(channels):
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64, channels), dtype=np.uint8)
    noise = np.repeat(noise, 3 // channels, axis=3)
    assert make("imaging_quality_sharpness").score(Clip(noise, 8.0, "")) < 0.02


def test_red_and_blue_objects_are_as_sharp_as_white_ones():
    def square(color):
        frames = np.zeros((2, 32, 32, 3), np.uint8)
        frames[:, 10:22, 10:22] = color
        return make("imaging_quality_sharpness").score(Clip(frames, 8.0, ""))

    assert square((255, 0, 0)) == square((0, 0, 255)) == square((255, 255, 255)) > 0.2


def test_grain_lowers_imaging_quality(clips_of):
    rng = np.random.default_rng(0)
    grainy = [
        Clip(np.clip(c.frames_THWC + rng.normal(0, 12, c.frames_THWC.shape), 0, 255).astype(np.uint8), c.fps, "")
        for c in clips_of(None)
    ]
    assert share_lower("imaging_quality_sharpness", clips_of(None), grainy) == 1.0


@pytest.mark.parametrize(
    ("name", "value"), [("temporal_flickering", 1.0), ("motion_smoothness_dis", 1.0), ("dynamic_degree_dis", 0.0)]
)
def test_still_clip_is_at_the_end_of_the_range(name, value, still_clip):
    assert make(name).score(still_clip) == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("name", ["temporal_flickering", "dynamic_degree_dis", "motion_smoothness_dis"])
def test_one_frame_is_refused(name, still_clip):
    with pytest.raises(ValueError, match="needs at least"):
        make(name).score(Clip(still_clip.frames_THWC[:1], 8.0, ""))


@pytest.mark.parametrize("name", PLAIN)
def test_large_and_odd_sizes_have_finite_scores_that_repeat(name):
    clip = Clip(np.random.default_rng(1).integers(0, 256, (3, 301, 647, 3), dtype=np.uint8), 23.976, "")
    first = make(name).score(clip)
    assert np.isfinite(first)
    assert make(name).score(clip) == first
