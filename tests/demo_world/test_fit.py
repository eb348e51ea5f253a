"""The nearest clip of the world: scene, positions and sizes are recovered, also after H.264."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.support.corruptions import corrupted, through_mp4
from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.fit import nearest_clip
from videodpo.demo_world.layout import draw_layout
from videodpo.demo_world.render import render


@pytest.mark.parametrize("two_object_share", [0.0, 1.0], ids=["one object", "two objects"])
def test_scene_and_layout_are_recovered(two_object_share):
    for seed in range(12):
        scene = random_scene(random.Random(seed), two_object_share=two_object_share)
        nearest = nearest_clip(render(scene, random.Random(seed)))
        assert nearest.scene == scene
        assert np.allclose(nearest.layout, draw_layout(scene, random.Random(seed)), atol=0.05)


@pytest.mark.parametrize("two_object_share", [0.0, 1.0], ids=["one object", "two objects"])
def test_encoding_moves_no_object_by_more_than_a_third_of_a_pixel(two_object_share, tmp_path):
    for seed in range(12):
        scene = random_scene(random.Random(seed), two_object_share=two_object_share)
        true = render(scene, random.Random(seed))
        frames = through_mp4(true, tmp_path)
        nearest = nearest_clip(frames)
        assert np.allclose(nearest.layout, draw_layout(scene, random.Random(seed)), atol=0.3)
        # H.264 halves the colour planes, so another shape may fit better than the true one; no object is missed.
        error = np.square(nearest.clip_THW3 - frames / 255).sum()
        assert error < 1.1 * np.square((true - frames.astype(float)) / 255).sum()


def test_the_fitted_clip_has_the_returned_scene_and_layout():
    rng = random.Random(5)
    frames = render(random_scene(rng, two_object_share=1.0), rng)
    assert np.abs(nearest_clip(frames).clip_THW3 * 255 - frames).max() < 4


def test_the_same_clip_has_the_same_fit():
    frames = corrupted(3, "blur", 0.5)
    first, second = nearest_clip(frames), nearest_clip(frames.copy())
    assert first.layout == second.layout
    np.testing.assert_array_equal(first.clip_THW3, second.clip_THW3)
