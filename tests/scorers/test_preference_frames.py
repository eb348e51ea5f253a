"""PickScore and HPS with tiny networks of the real classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torchvision.transforms.v2.functional as tvf
from PIL import Image

from tests.support.tiny_transformers import clip_tokenizer, tiny_clip
from videodpo.scorers.base import Clip
from videodpo.scorers.hps import Hps
from videodpo.scorers.networks.hps import HpsFrames, padded_squares
from videodpo.scorers.pickscore import PickScore

HPS = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def clip_of(num_frames: int, height: int = 60, width: int = 90, prompt: str = "a red boat") -> Clip:
    return Clip(np.random.default_rng(3).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8), 8.0, prompt)


@pytest.fixture(scope="module")
def pickscore_folder(tmp_path_factory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("pickscore"))


@pytest.fixture(scope="module")
def hps_file(tmp_path_factory) -> Path:
    """Weights in the authors' format; the architecture is registered as `tiny-hps`."""
    folder = tmp_path_factory.mktemp("hps")
    (folder / "tiny-hps.json").write_text(json.dumps(HPS))
    open_clip.add_model_config(folder / "tiny-hps.json")
    torch.manual_seed(0)
    torch.save({"epoch": 1, "state_dict": open_clip.CLIP(**HPS).state_dict()}, folder / "hps.pt")
    return folder / "hps.pt"


@pytest.fixture(autouse=True)
def tiny_architecture(monkeypatch):
    monkeypatch.setattr(HpsFrames, "architecture", "tiny-hps")


def pickscore(folder: Path, **options) -> PickScore:
    return PickScore(PickScore.Options(weights=str(folder), **options), "cpu")


def hps(file: Path, **options) -> Hps:
    return Hps(Hps.Options(weights=str(file), **options), "cpu")


@torch.no_grad()
def recipe(folder: Path, clip: Clip) -> list[float]:
    """PickScore by the code of its model card, from PIL images."""
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder)
    pictures = [Image.fromarray(frame) for frame in clip.frames_THWC]
    prepared = {"padding": True, "truncation": True, "max_length": 77, "return_tensors": "pt"}
    images = model.get_image_features(**processor(images=pictures, **prepared)).pooler_output
    texts = model.get_text_features(**processor(text=clip.prompt, **prepared)).pooler_output
    images, texts = (found / found.norm(dim=-1, keepdim=True) for found in (images, texts))
    return (model.logit_scale.exp() * (texts @ images.T)[0]).tolist()


@pytest.mark.parametrize("size", [(60, 90), (300, 200), (224, 224)])
def test_pickscore_is_the_mean_of_the_model_cards_scores(pickscore_folder, size):
    clip = clip_of(3, *size)
    expected = recipe(pickscore_folder, clip)
    assert pickscore(pickscore_folder).score(clip) == pytest.approx(np.mean(expected), abs=1e-5)
    assert max(expected) - min(expected) > 1e-3


def test_pickscore_truncates_a_text_to_77_tokens(pickscore_folder):
    clip = clip_of(1, prompt="a red boat " * 60)
    assert len(clip_tokenizer()(clip.prompt)["input_ids"]) > 77
    assert pickscore(pickscore_folder).score(clip) == pytest.approx(recipe(pickscore_folder, clip)[0], abs=1e-5)


@pytest.mark.parametrize(
    ("num_frames", "looked_at"), [(8, [0, 2, 4, 6, 8, 10, 12, 14]), (2, [3, 11]), (1, [7]), (None, range(16))]
)
def test_frames_are_the_middles_of_equal_intervals(pickscore_folder, num_frames, looked_at):
    clip = clip_of(16)
    few = Clip(clip.frames_THWC[list(looked_at)], 8.0, clip.prompt)
    score = pickscore(pickscore_folder, num_frames=num_frames).score(clip)
    assert score == pytest.approx(pickscore(pickscore_folder, num_frames=None).score(few), abs=1e-5)


def test_scorers_with_other_frames_have_batches_of_their_own(pickscore_folder, hps_file):
    """Otherwise the last bits of a score would depend on which other dimensions are scored."""
    for scorer, weights in ((pickscore, pickscore_folder), (hps, hps_file)):
        two, again, three = (scorer(weights, num_frames=number).backbone for number in (2, 2, 3))
        assert two is again is not three


def test_every_frame_of_a_short_clip_counts_once(pickscore_folder):
    clip = clip_of(3)
    assert pickscore(pickscore_folder).score(clip) == pickscore(pickscore_folder, num_frames=None).score(clip)


def test_empty_prompt_is_refused(pickscore_folder, hps_file):
    for scorer in (pickscore(pickscore_folder), hps(hps_file)):
        with pytest.raises(ValueError, match="a prompt is needed"):
            scorer.score(clip_of(1, prompt=" "))


def test_folder_is_checked_before_a_job_starts(pickscore_folder, tmp_path):
    with pytest.raises(ValueError, match=r"has no config\.json"):
        PickScore.check(PickScore.Options(weights=str(tmp_path)))
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="a model of type 'bert', not 'clip'"):
        PickScore.check(PickScore.Options(weights=str(tmp_path)))
    PickScore.check(PickScore.Options(weights=str(pickscore_folder)))


def test_weights_without_a_tensor_are_refused(pickscore_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    for file in pickscore_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["text_projection.weight"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"not those of CLIPModel: no text_projection\.weight"):
        pickscore(tmp_path)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(60, 90), (480, 832), (832, 480), (300, 300), (224, 224), (37, 223)])
def test_entire_frames_are_centred_in_black_squares(size, antialias):
    frame = clip_of(1, *size).pixels("cpu")[0]
    scaled = frame.float() / 255
    scale = 224 / max(size)
    height, width = (round(side * scale) for side in size)
    if scale != 1:
        scaled = tvf.resize(scaled, [height, width], tvf.InterpolationMode.BICUBIC, antialias=antialias)
    rows, columns = 224 - height, 224 - width
    edges = [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2]
    expected = tvf.pad(scaled, edges, fill=0)
    found = padded_squares(frame[None], 224, antialias=antialias)[0]
    assert found.shape == (3, 224, 224)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_hps_is_the_mean_cosine(hps_file):
    clip = clip_of(3)
    network = open_clip.CLIP(**HPS).eval()
    network.load_state_dict(torch.load(hps_file, weights_only=True)["state_dict"])
    squares = padded_squares(clip.pixels("cpu"), 224, antialias=True)
    pixels = tvf.normalize(squares, list(open_clip.OPENAI_DATASET_MEAN), list(open_clip.OPENAI_DATASET_STD))
    with torch.no_grad():
        images = network.encode_image(pixels, normalize=True)
        text = network.encode_text(open_clip.SimpleTokenizer()([clip.prompt]), normalize=True)
    assert hps(hps_file).score(clip) == pytest.approx((images @ text.T).mean().item(), abs=1e-6)


def test_antialias_of_hps_can_be_switched_off(hps_file):
    clip = clip_of(1, 480, 832)
    assert hps(hps_file).score(clip) != pytest.approx(hps(hps_file, antialias=False).score(clip), abs=1e-6)
