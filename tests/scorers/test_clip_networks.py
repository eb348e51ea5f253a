"""VBench's dimensions with CLIP and ViCLIP: towers of the real classes at tiny size."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from videodpo.scorers.aesthetic_quality import AestheticQuality
from videodpo.scorers.appearance_style import AppearanceStyle
from videodpo.scorers.background_consistency import BackgroundConsistency
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.clip import ClipFrames, ClipImages, ViClip
from videodpo.scorers.overall_consistency import OverallConsistency
from videodpo.scorers.shared.backbone import score_clips
from videodpo.scorers.shared.crops import square_crops
from videodpo.scorers.temporal_style import TemporalStyle

TINY = {
    "embed_dim": 768,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> dict[str, Path]:
    """Random weights in the formats of OpenAI, LAION and InternVid; the architecture is registered as `tiny`."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny-quickgelu.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny-quickgelu.json")
    torch.manual_seed(0)
    network = open_clip.create_model("tiny-quickgelu", precision="fp32")
    tensors = network.state_dict()
    settings = {name: torch.tensor(224) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save(tensors | settings, folder / "clip.pth")
    torch.save(torch.nn.Linear(768, 1).state_dict(), folder / "head.pth")
    viclip = {"temp": torch.tensor(0.01), "vision_encoder.temporal_positional_embedding": torch.randn(1, 8, 64)}
    for name, value in tensors.items():
        if name.startswith("visual."):
            viclip[name.replace("visual.", "vision_encoder.", 1)] = value
        elif name != "logit_scale":
            viclip[f"text_encoder.{name}"] = value
    viclip["vision_encoder.conv1.weight"] = viclip["vision_encoder.conv1.weight"].unsqueeze(2)
    viclip["text_encoder.positional_embedding"] = viclip["text_encoder.positional_embedding"][:32]
    torch.save({"model": viclip}, folder / "viclip.pth")
    still = dict(viclip) | {"vision_encoder.temporal_positional_embedding": torch.zeros(1, 8, 64)}
    torch.save({"model": still}, folder / "timeless.pth")
    return {path.stem: path for path in folder.glob("*.pth")}


@pytest.fixture(autouse=True)
def tiny_architecture(monkeypatch):
    for kind in (AestheticQuality, AppearanceStyle, BackgroundConsistency, ViClip):
        monkeypatch.setattr(kind, "architecture", "tiny")


def clip_of(num_frames: int, height: int = 60, width: int = 90, prompt: str = "a red boat") -> Clip:
    return Clip(np.random.default_rng(3).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8), 8.0, prompt)


def test_image_embeddings_are_the_towers_own(tiny):
    frames = ClipFrames("tiny", tiny["clip"], "cpu")
    crops = torch.rand(3, 3, 224, 224)
    network = open_clip.create_model("tiny-quickgelu", precision="fp32").eval()
    network.load_state_dict(
        {k: v for k, v in torch.load(tiny["clip"], weights_only=True).items() if v.ndim or "logit" in k}
    )
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(open_clip.OPENAI_DATASET_STD).view(1, 3, 1, 1)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(network.visual((crops - mean) / std), dim=-1)
    torch.testing.assert_close(frames.encode(crops), expected, rtol=0, atol=1e-5)


def test_bicubic_crops_overshoot_unless_they_are_rounded():
    frames = torch.zeros(1, 3, 20, 30, dtype=torch.uint8)
    frames[..., 15:] = 255
    free, rounded = square_crops(frames, 224), square_crops(frames, 224, rounded=True)
    assert free.shape == rounded.shape == (1, 3, 224, 224)
    assert free.min() < -0.01
    assert free.max() > 1.01
    assert 0 <= rounded.min() <= rounded.max() <= 1
    assert torch.equal((rounded * 255).round(), rounded * 255)


def test_background_is_fully_consistent_in_a_still_clip(tiny):
    background = BackgroundConsistency(BackgroundConsistency.Options(weights=str(tiny["clip"])), "cpu")
    clip = clip_of(3)
    assert background.score(Clip(clip.frames_THWC[[0, 0, 0]], 8.0, "")) == pytest.approx(1.0, abs=1e-5)
    assert background.score(clip) < 1
    with pytest.raises(ValueError, match="at least 2 frames"):
        background.score(clip_of(1))


def test_aesthetic_quality_is_a_tenth_of_the_heads_mean(tiny):
    options = AestheticQuality.Options(weights=[str(tiny["clip"]), str(tiny["head"])])
    aesthetic = AestheticQuality(options, "cpu")
    clip = clip_of(3)
    head = torch.load(tiny["head"], weights_only=True)
    features = ClipFrames("tiny", tiny["clip"], "cpu").encode(square_crops(clip.pixels("cpu"), 224))
    expected = (features @ head["weight"].T + head["bias"]).mean() / 10
    assert aesthetic.score(clip) == pytest.approx(float(expected), abs=1e-6)
    each = [aesthetic.score(Clip(frame[None], 8.0, "")) for frame in clip.frames_THWC]
    assert aesthetic.score(clip) == pytest.approx(np.mean(each), abs=1e-6)


@pytest.mark.parametrize("weights", [["a.pth"], ["a.pth", "b.pth", "c.pth"]])
def test_aesthetic_quality_takes_two_files(weights):
    with pytest.raises(ValueError, match="weights"):
        AestheticQuality.Options(weights=weights)


def test_viclip_distinguishes_the_order_of_frames_only_by_position_embeddings(tiny):
    crops = torch.rand(1, 8, 3, 224, 224)
    ordered, timeless = ViClip(tiny["viclip"], "cpu"), ViClip(tiny["timeless"], "cpu")
    assert not torch.allclose(ordered.video(crops), ordered.video(crops.flip(1)), atol=1e-4)
    torch.testing.assert_close(timeless.video(crops), timeless.video(crops.flip(1)), rtol=0, atol=1e-5)


def test_viclip_truncates_a_text_to_32_tokens(tiny):
    viclip = ViClip(tiny["viclip"], "cpu")
    words = ["boat", "tree", "road"] * 30
    assert torch.equal(viclip.text(" ".join(words)), viclip.text(" ".join(words[:60])))
    assert not torch.allclose(viclip.text("boat"), viclip.text("tree"))


def test_weights_of_clip_are_refused_for_viclip(tiny):
    with pytest.raises(ValueError, match="no temporal_positional_embedding"):
        ViClip(tiny["clip"], "cpu")


def test_overall_consistency_is_the_cosine(tiny):
    overall = OverallConsistency(OverallConsistency.Options(weights=str(tiny["viclip"])), "cpu")
    clip = clip_of(3)
    crops = square_crops(clip.pixels("cpu")[[0, 1, 2, 2, 2, 2, 2, 2]], 224, rounded=True)
    viclip = ViClip(tiny["viclip"], "cpu")
    assert overall.score(clip) == pytest.approx(
        float(viclip.video(crops[None])[0] @ viclip.text("a red boat")), abs=1e-6
    )
    with pytest.raises(ValueError, match="needs a prompt"):
        overall.score(clip_of(3, prompt=" "))


def test_temporal_style_is_overall_consistency_from_the_same_pass(tiny):
    overall, style = (
        kind(kind.Options(weights=str(tiny["viclip"])), "cpu") for kind in (OverallConsistency, TemporalStyle)
    )
    assert overall.backbone is style.backbone
    (first,), (second,) = score_clips([overall, style], [clip_of(9)])
    assert first == second


def styled(clip: Clip, style: str) -> Clip:
    return Clip(clip.frames_THWC, clip.fps, clip.prompt, info={"appearance_style": style})


@torch.no_grad()
@pytest.mark.parametrize("size", [(60, 90), (301, 227), (224, 224)])
def test_appearance_style_is_that_of_a_loop_over_pil_images(tiny, size):
    network = open_clip.create_model("tiny-quickgelu", precision="fp32").eval()
    tensors = torch.load(tiny["clip"], weights_only=True)
    network.load_state_dict({name: value for name, value in tensors.items() if value.ndim or "logit" in name})
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    prepare = Compose([Resize(224, InterpolationMode.BICUBIC), CenterCrop(224), ToTensor(), Normalize(mean, std)])
    text = network.encode_text(open_clip.tokenize(["oil painting"]), normalize=True)
    clip = clip_of(3, *size)
    logits = []
    for frame in clip.frames_THWC:
        image = network.encode_image(prepare(Image.fromarray(frame))[None], normalize=True)
        logits.append(float(network.logit_scale.exp() * image @ text.T))
    style = AppearanceStyle(AppearanceStyle.Options(weights=str(tiny["clip"])), "cpu")
    assert style.score(styled(clip, "oil painting")) == pytest.approx(np.mean(logits) / 100, abs=1e-6)
    assert style.score(styled(clip, "pixel art")) != pytest.approx(np.mean(logits) / 100, abs=1e-4)


def test_appearance_style_refuses_a_clip_without_a_style_before_the_network_runs(tiny, monkeypatch):
    monkeypatch.setattr(ClipImages, "outputs", lambda self, parts: pytest.fail("the network ran"))
    style = AppearanceStyle(AppearanceStyle.Options(weights=str(tiny["clip"])), "cpu")
    with pytest.raises(ValueError, match="appearance_style needs the style: --info"):
        style.score(clip_of(2, prompt="a boat, oil painting"))
