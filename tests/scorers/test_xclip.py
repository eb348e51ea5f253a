"""Overall consistency by X-CLIP with a tiny network of the real class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.tiny_transformers import tiny_xclip
from videodpo.scorers.base import Clip
from videodpo.scorers.overall_consistency_xclip import OverallConsistencyXclip
from videodpo.scorers.shared.backbone import score_clips
from videodpo.scorers.shared.middle_frames import middle_frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tiny_xclip(tmp_path_factory.mktemp("xclip"))


@pytest.fixture
def scorer(folder) -> OverallConsistencyXclip:
    return OverallConsistencyXclip(OverallConsistencyXclip.Options(weights=str(folder)), "cpu")


def clip_of(num_frames: int, prompt: str = "a red boat", seed: int = 3) -> Clip:
    return Clip(np.random.default_rng(seed).integers(0, 256, (num_frames, 40, 60, 3), dtype=np.uint8), 8.0, prompt)


@torch.no_grad()
def cosine_by_forward(folder: Path, clip: Clip) -> float:
    """Cosine from the model's own logits for PIL images."""
    from transformers import XCLIPModel, XCLIPProcessor

    model, processor = XCLIPModel.from_pretrained(folder).eval(), XCLIPProcessor.from_pretrained(folder)
    pictures = [Image.fromarray(clip.frames_THWC[number]) for number in middle_frames(len(clip.frames_THWC))]
    inputs = processor(text=[clip.prompt], videos=pictures, return_tensors="pt", truncation=True, max_length=77)
    inputs["pixel_values"] = inputs["pixel_values"].reshape(1, 8, 3, 32, 32)
    return (model(**inputs).logits_per_video / model.logit_scale.exp()).item()


@pytest.mark.parametrize("num_frames", [1, 3, 8, 17])
def test_score_is_the_cosine_of_the_models_forward(scorer, folder, num_frames):
    clip = clip_of(num_frames)
    score = scorer.score(clip)
    assert score == pytest.approx(cosine_by_forward(folder, clip), abs=1e-6)
    assert -1 <= score <= 1


def test_clips_of_a_batch_use_only_their_own_prompts(scorer, monkeypatch):
    clips = [clip_of(9, "a red boat", 0), clip_of(4, "a tree on a hill, far away", 1), clip_of(9, "red", 2)]
    alone = [scorer.score(clip) for clip in clips]
    monkeypatch.setattr(type(scorer.backbone), "batch_size", lambda *_: 3)
    assert score_clips([scorer], clips)[0] == pytest.approx(alone, abs=1e-6)
    assert len({round(score, 4) for score in alone}) == 3


def test_text_beyond_77_tokens_is_truncated(scorer, folder):
    clip = clip_of(8, "a red boat " * 60)
    assert scorer.score(clip) == pytest.approx(cosine_by_forward(folder, clip), abs=1e-6)


def test_empty_prompt_is_refused(scorer):
    with pytest.raises(ValueError, match="needs a prompt"):
        scorer.score(clip_of(8, " "))


def test_folder_of_another_model_is_refused(tmp_path):
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_text('{"model_type": "clip"}')
    with pytest.raises(ValueError, match="a model of type 'clip', not 'xclip'"):
        OverallConsistencyXclip.check(OverallConsistencyXclip.Options(weights=str(tmp_path)))
