"""VideoReward and HPSv3 with tiny networks, whose checkpoints have the published layouts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as tvf
from PIL import Image

from tests.support.reward_models import (
    IMAGE_END,
    IMAGE_TEXT,
    VIDEO_TEXT,
    Tiny,
    outputs,
    tiny_hpsv3,
    tiny_videoreward,
)
from videodpo.config import ConfigError
from videodpo.config.section import validate
from videodpo.scorers.base import Clip
from videodpo.scorers.hpsv3 import Hpsv3
from videodpo.scorers.hpsv3_sigma import Hpsv3Sigma
from videodpo.scorers.networks.hpsv3 import resized
from videodpo.scorers.networks.qwen2_vl import patches
from videodpo.scorers.networks.videoreward import VideoRewardClips, frame_numbers, sampled_frames
from videodpo.scorers.shared.backbone import score_clips
from videodpo.scorers.shared.reward_text import HPSV3, VIDEOREWARD
from videodpo.scorers.videoreward_motion_quality import VideoRewardMotionQuality
from videodpo.scorers.videoreward_text_alignment import VideoRewardTextAlignment
from videodpo.scorers.videoreward_visual_quality import VideoRewardVisualQuality
from videodpo.weights.checkpoints import read_checkpoint

BICUBIC = tvf.InterpolationMode.BICUBIC
KINDS = [VideoRewardVisualQuality, VideoRewardMotionQuality, VideoRewardTextAlignment]
PROMPT = 'a {red} boat,\n{text_prompt} on a lake {0} % "quoted"'


@pytest.fixture(scope="module")
def videoreward(tmp_path_factory) -> Tiny:
    return tiny_videoreward(tmp_path_factory.mktemp("videoreward"))


@pytest.fixture(scope="module")
def hpsv3(tmp_path_factory) -> Tiny:
    return tiny_hpsv3(tmp_path_factory.mktemp("hpsv3"))


def clip_of(num_frames: int = 9, prompt: str = PROMPT, seed: int = 3, size: tuple[int, int] = (60, 90)) -> Clip:
    coarse = np.random.default_rng(seed).integers(0, 256, (num_frames, 4, 5, 3), dtype=np.uint8)
    rows, columns = (-(-side // cells) for side, cells in zip(size, (4, 5), strict=True))
    frames = coarse.repeat(rows, axis=1).repeat(columns, axis=2)[:, : size[0], : size[1]]
    return Clip(np.ascontiguousarray(frames), 8.0, prompt)


def scorer_of(kind: Any, weights: list[str], **options: Any) -> Any:
    raw = {"weights": weights, "dtype": "float32"} | options
    return kind(validate(kind.Options, raw), "cpu")


def raw_rewards(weights: list[str], clips: list[Clip], **options: Any) -> list[list[float]]:
    """Outputs of the head, [clip][visual quality, motion quality, text alignment]."""
    scorers = [scorer_of(kind, weights, standardize=False, **options) for kind in KINDS]
    return [list(one) for one in zip(*score_clips(scorers, clips), strict=True)]


def test_rewards_are_those_of_the_network_with_its_lora(videoreward):
    clip = clip_of()
    frames_THWC = sampled_frames(clip).permute(0, 2, 3, 1).numpy()
    text = VIDEO_TEXT.replace("{text_prompt}", PROMPT)
    expected = outputs(videoreward, frames_THWC, text)[:, 0].tolist()
    assert raw_rewards(videoreward.weights, [clip])[0] == pytest.approx(expected, abs=1e-4)
    on_a_grid = outputs(videoreward, frames_THWC, text, grid_positions=True)[:, 0].tolist()
    assert on_a_grid != pytest.approx(expected, abs=1e-2)  # so the comparison sees the positions


def test_visual_and_motion_quality_do_not_depend_on_the_prompt(videoreward):
    first, second = raw_rewards(videoreward.weights, [clip_of(prompt="a red boat"), clip_of(prompt="a cat sleeps")])
    assert first[:2] == pytest.approx(second[:2], abs=1e-5)
    assert first[2] != pytest.approx(second[2], abs=1e-2)


def test_three_dimensions_take_one_pass(videoreward, monkeypatch):
    passes = []
    answer = VideoRewardClips.outputs
    monkeypatch.setattr(
        VideoRewardClips, "outputs", lambda self, parts: passes.append(len(parts)) or answer(self, parts)
    )
    rewards = raw_rewards(videoreward.weights, [clip_of(), clip_of(seed=4)])
    assert passes == [1, 1]
    assert len({value for one in rewards for value in one}) == 6


@pytest.mark.parametrize(
    ("kind", "mean", "std"), zip(KINDS, [3.6757, 1.1646, 2.8105], [2.2476, 1.3811, 2.5121], strict=True)
)
def test_scores_are_standardized_as_the_authors_do(videoreward, kind, mean, std):
    raw = scorer_of(kind, videoreward.weights, standardize=False).score(clip_of())
    assert scorer_of(kind, videoreward.weights).score(clip_of()) == pytest.approx((raw - mean) / std)


def test_batch_gives_the_rewards_of_single_clips(videoreward, monkeypatch):
    prompts = {"a boat": 9, PROMPT: 9, "a long story about a tree that grows on a hill": 40, "red": 3}
    clips = [clip_of(num_frames, prompt, seed) for seed, (prompt, num_frames) in enumerate(prompts.items())]
    alone = raw_rewards(videoreward.weights, clips)
    monkeypatch.setattr(VideoRewardClips, "batch_size", lambda *_: 4)
    for batched, single in zip(raw_rewards(videoreward.weights, clips), alone, strict=True):
        assert batched == pytest.approx(single, abs=1e-4)


@pytest.mark.parametrize(
    ("total", "fps", "numbers"),
    [
        (16, 8.0, [0, 5, 10, 15]),
        (33, 16.0, [0, 11, 21, 32]),
        (81, 16.0, [0, 9, 18, 27, 36, 44, 53, 62, 71, 80]),
        (85, 16.0, [0, 9, 19, 28, 37, 47, 56, 65, 75, 84]),
        (5, 8.0, [0, 1, 3, 4]),
        (3, 8.0, [0, 2]),
        (1, 8.0, [0]),
    ],
)
def test_two_frames_per_second_are_an_even_number(total, fps, numbers):
    assert frame_numbers(total, fps) == numbers


# Sizes that the originals gave to clips of these sizes.
@pytest.mark.parametrize(
    ("size", "video", "image"),
    [
        ((128, 192), (280, 392), (392, 560)),
        ((136, 160), (308, 364), (420, 504)),
        ((320, 448), (308, 448), (392, 532)),
        ((202, 360), (252, 448), (336, 616)),
    ],
)
def test_frames_have_the_sizes_of_the_originals(size, video, image):
    clip = clip_of(4, size=size)
    assert sampled_frames(clip).shape == (4, 3, *video)
    assert resized(clip.frames_THWC[0]).shape == (1, 3, *image)


def test_frames_are_resized_by_the_libraries_of_the_originals():
    """VideoReward resizes with torchvision, HPSv3 with PIL; the two differ."""
    frame = np.random.default_rng(0).integers(0, 256, (90, 140, 3), dtype=np.uint8)
    for ours, by_pil in ((resized(frame), True), (sampled_frames(Clip(frame[None], 8.0, "")), False)):
        height, width = ours.shape[2:]
        pil = np.array(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))
        vision = tvf.resize(torch.from_numpy(frame).permute(2, 0, 1), [height, width], BICUBIC, antialias=True)
        assert torch.equal(ours[0], torch.from_numpy(pil).permute(2, 0, 1)) == by_pil
        assert torch.equal(ours[0], vision) != by_pil


@pytest.mark.parametrize("num_frames", [4, 3, 1])
def test_patches_are_those_of_the_processor(num_frames):
    from transformers import Qwen2VLVideoProcessor

    frames_TCHW = torch.from_numpy(clip_of(num_frames, size=(56, 84)).frames_THWC).permute(0, 3, 1, 2)
    prepare = Qwen2VLVideoProcessor(do_resize=False, do_sample_frames=False, cap_pixels_per_frame=False)
    expected = prepare(frames_TCHW, return_tensors="pt")
    pixels_N, grid = patches(frames_TCHW)
    assert [list(grid)] == expected["video_grid_thw"].tolist()
    torch.testing.assert_close(pixels_N, expected["pixel_values_videos"], rtol=0, atol=1e-5)


def frame_answers(hpsv3: Tiny, clip: Clip, prompt: str) -> list[list[float]]:
    """[mean, log sigma] of every frame, from pictures resized by PIL."""
    height, width = resized(clip.frames_THWC[0]).shape[2:]
    found = []
    for frame in clip.frames_THWC:
        picture = np.array(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))
        text = IMAGE_TEXT.replace("{text_prompt}", prompt) + IMAGE_END
        found.append(outputs(hpsv3, picture[None], text)[0].tolist())
    return found


def test_hpsv3_is_the_mean_of_the_frames_or_of_the_best(hpsv3):
    clip = clip_of(7)
    answers = frame_answers(hpsv3, clip, PROMPT)
    means, best = [mean for mean, _ in answers], sorted(answers, reverse=True)[:2]
    assert max(means) - min(means) > 1e-2
    every = {"num_frames": None}
    assert scorer_of(Hpsv3, hpsv3.weights, **every).score(clip) == pytest.approx(np.mean(means), abs=1e-4)
    top = every | {"reduction": "top_30_percent"}
    assert scorer_of(Hpsv3, hpsv3.weights, **top).score(clip) == pytest.approx(
        np.mean([mean for mean, _ in best]), abs=1e-4
    )
    assert scorer_of(Hpsv3Sigma, hpsv3.weights, **top).score(clip) == pytest.approx(
        np.mean([math.exp(log_sigma) for _, log_sigma in best]), rel=1e-3
    )


def test_hpsv3_looks_at_the_middles_of_equal_intervals(hpsv3):
    clip = clip_of(16)
    few = Clip(clip.frames_THWC[[3, 11]], clip.fps, clip.prompt)
    score = scorer_of(Hpsv3, hpsv3.weights, num_frames=2).score(clip)
    assert score == pytest.approx(scorer_of(Hpsv3, hpsv3.weights, num_frames=None).score(few), abs=1e-5)


def test_hpsv3_reads_the_clips_prompt_or_a_fixed_one(hpsv3):
    fixed = scorer_of(Hpsv3, hpsv3.weights, num_frames=1, prompt="a picture")
    assert fixed.score(clip_of(1, prompt="")) == fixed.score(clip_of(1, prompt="a cat"))
    own = scorer_of(Hpsv3, hpsv3.weights, num_frames=1)
    assert own.score(clip_of(1, prompt="a picture")) == fixed.score(clip_of(1))
    assert own.score(clip_of(1, prompt="a cat")) != pytest.approx(fixed.score(clip_of(1)), abs=1e-2)


def test_bfloat16_changes_scores_little_and_keeps_the_head_in_float32(videoreward, hpsv3):
    clip = clip_of()
    exact, rounded = (raw_rewards(videoreward.weights, [clip], dtype=dtype)[0] for dtype in ("float32", "bfloat16"))
    assert rounded == pytest.approx(exact, abs=0.5)
    assert rounded != exact
    assert any(torch.tensor(value) != torch.tensor(value).bfloat16() for value in rounded)
    both = [scorer_of(Hpsv3, hpsv3.weights, dtype=dtype).score(clip) for dtype in ("float32", "bfloat16")]
    assert both[0] == pytest.approx(both[1], abs=0.5)


def test_empty_prompt_is_refused_where_the_prompt_counts(videoreward, hpsv3):
    clip = clip_of(prompt=" ")
    assert math.isfinite(scorer_of(VideoRewardVisualQuality, videoreward.weights).score(clip))
    for kind, tiny in ((VideoRewardTextAlignment, videoreward), (Hpsv3, hpsv3), (Hpsv3Sigma, hpsv3)):
        with pytest.raises(ValueError, match="needs a prompt, this one is empty"):
            scorer_of(kind, tiny.weights).score(clip)


@pytest.mark.parametrize("token", ["<|VQ_reward|>", "<|video_pad|>", "<|im_end|>"])
def test_prompt_with_a_special_token_is_refused(videoreward, token):
    with pytest.raises(ValueError, match="a special token of the reward model; remove it"):
        scorer_of(VideoRewardMotionQuality, videoreward.weights).score(clip_of(prompt=f"a {token} boat"))


def test_clip_without_a_frame_rate_is_refused(videoreward):
    clip = Clip(clip_of().frames_THWC, 0.0, PROMPT)
    with pytest.raises(ValueError, match="VideoReward needs a frame rate"):
        scorer_of(VideoRewardMotionQuality, videoreward.weights).score(clip)


LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(f"{LAYER}.lora_B.default.weight"), "not those of RewardNetwork: model.layers.0"),
        (lambda tensors: tensors.pop("base_model.model.rm_head.weight"), "rm_head.weight is missing"),
        (lambda tensors: tensors.update({"base_model.model.other": torch.zeros(2)}), "other is not known"),
        (
            lambda tensors: tensors.update({"base_model.model.rm_head.weight": torch.zeros(3, 32)}),
            r"rm_head.weight is \(3, 32\), \(1, 32\) is needed",
        ),
    ],
)
def test_checkpoint_with_other_tensors_is_refused(videoreward, tmp_path, change, message):
    checkpoint, base, text = videoreward.weights
    tensors = read_checkpoint(Path(checkpoint))
    change(tensors)
    torch.save(tensors, tmp_path / "model.pth")
    with pytest.raises(ValueError, match=message):
        scorer_of(VideoRewardVisualQuality, [str(tmp_path / "model.pth"), base, text])


def test_tokenizer_with_other_numbers_is_refused(videoreward, tmp_path):
    from transformers import AutoTokenizer

    checkpoint, base, text = videoreward.weights
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<|another|>"], special_tokens=True)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes((Path(base) / "config.json").read_bytes())
    with pytest.raises(ValueError, match=r"its tokenizer gives <\|VQ_reward\|> the number \d+"):
        scorer_of(VideoRewardVisualQuality, [checkpoint, str(tmp_path), text])


def test_text_file_is_read_and_not_executed(tmp_path):
    path, target = tmp_path / "text.py", tmp_path / "executed"
    path.write_text(
        f"import nowhere\nfrom pathlib import Path\nPath({str(target)!r}).touch()\n"
        'INSTRUCTION = """\nfirst {text_prompt}\n"""\nprompt_with_special_token = "é <|Reward|>\\n"\n',
        encoding="utf-8",
    )
    assert HPSV3.read(path) == "\nfirst {text_prompt}\né <|Reward|>\n"
    assert not target.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("INSTRUCTION = 3", "no text constant INSTRUCTION; name the authors' Python file"),
        ('INSTRUCTION = "{text_prompt}"', "no text constant prompt_with_special_token"),
        ('INSTRUCTION = ""; prompt_with_special_token = "<|Reward|>"', r"\{text_prompt\} is 0 times"),
        ('INSTRUCTION = "{text_prompt} <|Reward|>"; prompt_with_special_token = "<|Reward|>"', "is 2 times"),
        ("INSTRUCTION = (", "not readable as a Python file"),
        ("INSTRUCTION = '\0'", "not readable as a Python file"),
        ("(" * 10_000, "not readable as a Python file"),
    ],
)
def test_text_file_without_the_text_is_refused(tmp_path, content, message):
    (tmp_path / "text.py").write_text(content)
    with pytest.raises(ValueError, match=message):
        HPSV3.read(tmp_path / "text.py")


def test_weights_are_checked_before_a_job_starts(videoreward, tmp_path):
    def check(number: int, location: Path | str) -> None:
        weights = [*videoreward.weights]
        weights[number] = str(location)
        VideoRewardVisualQuality.check(validate(VideoRewardVisualQuality.Options, {"weights": weights}))

    checkpoint, base, text = videoreward.weights
    check(0, checkpoint)
    VideoRewardVisualQuality.check(VideoRewardVisualQuality.Options())  # published weights, not fetched yet
    with pytest.raises(ValueError, match="is not a file"):
        check(0, base)
    with pytest.raises(ValueError, match="not readable as a checkpoint"):
        check(0, text)
    with pytest.raises(ValueError, match=r"has no config\.json; the second entry is a folder"):
        check(1, tmp_path)
    with pytest.raises(ValueError, match="is a file; the second entry is a folder"):
        check(1, "public:HPSv3.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_5_vl"}')
    with pytest.raises(ValueError, match=r"has no tokenizer\.json"):
        check(1, tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is a model of type 'qwen2_5_vl'"):
        check(1, tmp_path)
    with pytest.raises(ValueError, match=r"is neither a file nor a folder with prompt_template\.py"):
        check(2, tmp_path)
    with pytest.raises(ValueError, match="not readable as a Python file"):
        check(2, checkpoint)


def test_other_numbers_of_weights_are_refused():
    with pytest.raises(ConfigError, match="weights: 1 given; three are needed, in this order: the checkpoint"):
        validate(Hpsv3.Options, {"weights": ["public:HPSv3.safetensors"]})


def test_text_has_the_structure_that_the_chat_needs():
    assert VIDEOREWARD.chat("see {text_prompt}", "a {media} {text}") == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|video_pad|><|vision_end|>see a {media} {text}<|im_end|>\n<|im_start|>assistant\n"
    )
