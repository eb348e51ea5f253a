"""Fidelity to the demo world: clean clips score highest, defects lower, empty clips lowest."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.corruptions import CORRUPTIONS, corrupted, through_mp4
from videodpo.demo_world.render import NUM_FRAMES, SIZE
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import score_clips
from videodpo.scorers.world_fidelity import WorldFidelity

JUDGE = WorldFidelity(WorldFidelity.Options(), "cpu")


def score(frames: np.ndarray, prompt: str = "") -> float:
    return JUDGE.score(Clip(frames, 8.0, prompt))


def test_clean_clips_score_near_one_after_encoding(tmp_path):
    scores = [score(through_mp4(corrupted(seed, "blur", 0.0), tmp_path)) for seed in range(12)]
    assert np.mean(scores) > 0.93
    assert min(scores) > 0.88


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_stronger_defect_scores_lower(kind, tmp_path):
    scores = np.array(
        [
            [score(through_mp4(corrupted(seed, kind, strength), tmp_path)) for seed in range(6)]
            for strength in (0.0, 0.4, 0.7, 1.0)
        ]
    )
    assert np.all(np.diff(scores.mean(axis=1)) < -0.03)
    assert np.mean(np.diff(scores, axis=0) < 0) > 0.85  # for nearly every single clip too


def test_an_empty_clip_has_the_lowest_score():
    black = np.zeros((NUM_FRAMES, SIZE, SIZE, 3), np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, black.shape, dtype=np.uint8)
    assert score(black) == 0.0
    assert score(noise) < 0.05
    assert score(np.full_like(black, 120)) < 0.1


def test_the_score_does_not_depend_on_the_prompt_or_other_clips():
    clips = [Clip(corrupted(seed, "noise", 0.3), 8.0, "") for seed in range(4)]
    together = score_clips([JUDGE], clips)[0]
    assert together == [score(clip.frames_THWC, "A red circle grows on a teal background.") for clip in clips]
    assert len(set(together)) == len(clips)


@pytest.mark.parametrize("shape", [(8, 32, 32, 3), (9, 32, 48, 3), (9, 64, 64, 3)])
def test_clips_of_other_sizes_are_refused(shape):
    with pytest.raises(ValueError, match=f"{shape[0]} frames of {shape[1]} x {shape[2]}; .* 9 frames of 32 x 32"):
        score(np.zeros(shape, np.uint8))
