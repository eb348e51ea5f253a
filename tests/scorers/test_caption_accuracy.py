"""The judge with random weights (its arithmetic) and with the bundled ones (the claim of its model card)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from videodpo.demo_world.captions import parse_caption
from videodpo.demo_world.judge_network import JudgeNetwork
from videodpo.scorers.base import Clip
from videodpo.scorers.caption_accuracy import CaptionAccuracy

BUNDLED = Path(__file__).parents[2] / "demo" / "judge" / "judge.safetensors"


@pytest.fixture
def judge(tmp_path) -> CaptionAccuracy:
    torch.manual_seed(0)
    save_file(JudgeNetwork().half().state_dict(), tmp_path / "judge.safetensors")
    return CaptionAccuracy(CaptionAccuracy.Options(weights=str(tmp_path / "judge.safetensors")), "cpu")


def test_score_is_the_share_of_named_attributes(judge, still_clip):
    seen = judge.look(still_clip.frames_THWC)
    color = seen["color"]
    other = next(name for name in ("red", "blue") if name != color)
    motion = {"left": "moves left", "right": "moves right", "up": "moves up", "down": "moves down"}
    verb = motion.get(seen["motion"], seen["motion"].replace("still", "grows"))
    right = 4 - (seen["motion"] == "still")
    caption = f"A {{}} {seen['shape']} {verb} on a {seen['background']} background."
    assert judge.score(Clip(still_clip.frames_THWC, 8.0, caption.format(color))) == right / 4
    assert judge.score(Clip(still_clip.frames_THWC, 8.0, caption.format(other))) == (right - 1) / 4


def test_second_object_counts_where_the_caption_names_one(judge, still_clip):
    caption = "A red circle grows beside a blue ring on a teal background."
    seen, scene = judge.look(still_clip.frames_THWC), parse_caption(caption)
    right = sum(seen[name] == getattr(scene, name) for name in seen)
    assert judge.score(Clip(still_clip.frames_THWC, 8.0, caption)) == right / 6


def test_other_prompts_are_refused(judge, still_clip):
    with pytest.raises(ValueError, match="not a caption of the demo world"):
        judge.score(Clip(still_clip.frames_THWC, 8.0, "a dog on a beach"))


@pytest.mark.parametrize("shape", [(1, 32, 32, 3), (40, 48, 64, 3), (9, 16, 16, 3)])
def test_other_sizes_and_lengths_are_scored(judge, shape):
    assert set(judge.look(np.zeros(shape, np.uint8))) == {
        "shape",
        "color",
        "motion",
        "background",
        "other_shape",
        "other_color",
    }


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"gone\.safetensors"):
        CaptionAccuracy(CaptionAccuracy.Options(weights=str(tmp_path / "gone.safetensors")), "cpu")


@pytest.mark.parametrize("defect", [None, "flicker", "shake", "haze"])
def test_bundled_judge_is_right_on_rendered_clips(defect, clips_of):
    judge = CaptionAccuracy(CaptionAccuracy.Options(weights=str(BUNDLED)), "cpu")
    assert np.mean([judge.score(clip) for clip in clips_of(defect)]) > 0.93


def test_bundled_judge_sees_that_a_frozen_clip_does_not_move(clips_of):
    judge = CaptionAccuracy(CaptionAccuracy.Options(weights=str(BUNDLED)), "cpu")
    single = [clip for clip in clips_of("freeze") if " beside " not in clip.prompt]
    assert np.mean([judge.look(clip.frames_THWC)["motion"] == "still" for clip in single]) > 0.9
