"""Scorers with an open_clip model of random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from videodpo.scorers.background_consistency_clip import BackgroundConsistencyClip
from videodpo.scorers.base import Clip
from videodpo.scorers.overall_consistency_clip import OverallConsistencyClip
from videodpo.scorers.shared.consistency import consistency
from videodpo.scorers.shared.middle_frames import middle_frames
from videodpo.scorers.shared.open_clip_frames import OpenClipFrames, OpenClipScorer
from videodpo.scorers.subject_consistency_clip import SubjectConsistencyClip

ALL = [BackgroundConsistencyClip, SubjectConsistencyClip, OverallConsistencyClip]


@pytest.fixture
def options(clip_folder) -> OpenClipScorer.Options:
    return OpenClipScorer.Options(weights=str(clip_folder))


def test_formula_on_three_unit_vectors_equals_the_hand_computed_value():
    features = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    # frame 1: cosine 0.6 to both; frame 2: -0.6 to the previous and -1 to the first, both count as 0
    assert consistency(list(features)) == pytest.approx((0.6 + 0.0) / 2, abs=1e-7)


@pytest.mark.parametrize("kind", [BackgroundConsistencyClip, SubjectConsistencyClip])
def test_identical_frames_are_fully_consistent(kind, options, still_clip):
    assert kind(options, "cpu").score(still_clip) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("kind", [BackgroundConsistencyClip, SubjectConsistencyClip])
def test_other_scene_in_each_frame_is_less_consistent_than_one_scene(kind, options, clips_of):
    one = clips_of(None)[0]
    mixed = Clip(np.stack([clip.frames_THWC[0] for clip in clips_of(None)[:9]]), 8.0, "")
    scorer = kind(options, "cpu")
    assert scorer.score(mixed) < scorer.score(one) < 1.0


def test_subject_uses_moving_patches_and_background_the_entire_frame(options, clips_of):
    clip = clips_of(None)[0]
    subject, background = (kind(options, "cpu").score(clip) for kind in ALL[1::-1])
    assert subject != pytest.approx(background, abs=1e-4)


def test_overall_consistency_is_the_cosine_with_the_text(options, clips_of):
    clip = clips_of(None)[0]
    backbone = OpenClipFrames.shared(options.weights, "cpu")
    answers = backbone.outputs([(clip, number) for number in middle_frames(9)])
    mean = torch.stack([answer.image_D for answer in answers]).mean(dim=0)
    expected = torch.nn.functional.cosine_similarity(mean, backbone.text(clip.prompt), dim=0)
    assert OverallConsistencyClip(options, "cpu").score(clip) == pytest.approx(expected.item(), abs=1e-6)


def test_prompt_changes_overall_consistency_and_nothing_else(options, clips_of):
    clip = clips_of(None)[0]
    other = Clip(clip.frames_THWC, clip.fps, "a blue square")
    for kind in ALL:
        scorer = kind(options, "cpu")
        assert (scorer.score(clip) != scorer.score(other)) == (kind is OverallConsistencyClip)


def test_text_beyond_the_context_is_truncated(options, still_clip):
    long = Clip(still_clip.frames_THWC, 8.0, "a red circle " * 200)
    assert np.isfinite(OverallConsistencyClip(options, "cpu").score(long))


def test_empty_prompt_is_refused(options, still_clip):
    with pytest.raises(ValueError, match="needs a prompt"):
        OverallConsistencyClip(options, "cpu").score(Clip(still_clip.frames_THWC, 8.0, " "))


@pytest.mark.parametrize(
    ("num_frames", "indices"),
    [(16, [0, 2, 4, 6, 8, 10, 12, 14]), (8, list(range(8))), (3, [0, 1, 2, 2, 2, 2, 2, 2]), (1, [0] * 8)],
)
def test_frames_are_the_middles_of_8_intervals(num_frames, indices):
    assert middle_frames(num_frames) == indices


def test_crops_of_a_wide_clip_are_its_centre(options):
    frames = np.zeros((2, 32, 64, 3), np.uint8)
    frames[:, :, 16:48] = 255
    backbone = OpenClipFrames.shared(options.weights, "cpu")
    assert backbone.crops(Clip(frames, 8.0, "").pixels("cpu")).min() == 1.0


def test_frame_features_do_not_depend_on_the_other_frames(options, clips_of):
    backbone = OpenClipFrames.shared(options.weights, "cpu")
    parts = [(clip, number) for clip in clips_of(None)[:2] for number in range(9)]
    (alone,) = backbone.outputs(parts[4:5])
    torch.testing.assert_close(backbone.outputs(parts)[4], alone, atol=1e-5, rtol=0)


def test_scorers_share_one_model(options):
    assert ALL[0](options, "cpu")._clip is ALL[2](options, "cpu")._clip


def test_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"open_clip_config\.json"):
        ALL[0](OpenClipScorer.Options(weights=str(tmp_path)), "cpu")
