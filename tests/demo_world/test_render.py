"""Drawing of clips. The bundled weights were trained on these pixels, so they must never change."""

from __future__ import annotations

import hashlib
import random

import numpy as np

from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.layout import draw_layout, layout_range
from videodpo.demo_world.render import DEFECTS, NUM_FRAMES, draw, render, to_frames

DIGEST = "78bbe0833fe95ca4073d8f28166c086ba924d45b6d91c675a5263397a8df18c3"


def test_the_same_draws_give_the_bytes_of_the_bundled_weights_data():
    digest = hashlib.sha256()
    for defect in (None, *DEFECTS):
        for seed in range(100):
            rng = random.Random(seed)
            digest.update(render(random_scene(rng, two_object_share=0.5), rng, defect=defect).tobytes())
            digest.update(repr(rng.random()).encode())
    assert digest.hexdigest() == DIGEST


def test_a_clip_can_be_drawn_from_given_positions_and_sizes():
    for seed in range(20):
        scene = random_scene(random.Random(seed), two_object_share=0.5)
        layout = draw_layout(scene, random.Random(seed))
        drawn = draw(scene, layout, np.linspace(0.0, 1.0, NUM_FRAMES), np.zeros((NUM_FRAMES, 2)))
        np.testing.assert_array_equal(to_frames(drawn), render(scene, random.Random(seed)))


def test_layouts_are_drawn_within_their_ranges():
    for seed in range(200):
        scene = random_scene(random.Random(seed), two_object_share=0.5)
        layout = draw_layout(scene, random.Random(seed))
        high_lane = layout.lane > layout.other_lane > 0
        low, high = layout_range(scene, high_lane=high_lane)
        assert np.all(np.array(low) <= layout), scene
        assert np.all(np.array(layout) <= high), scene
