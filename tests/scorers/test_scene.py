"""Scene by Tag2Text, with a tiny network whose checkpoint has the published layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.tag2text import TINY, tiny_tag2text
from videodpo.config.errors import InputError
from videodpo.config.section import validate
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.tag2text import LEFT_OUT, Tag2TextCaptions
from videodpo.scorers.scene import Scene
from videodpo.scorers.scene_all_frames import SceneAllFrames
from videodpo.scorers.shared.backbone import score_clips
from videodpo.storage.clips import write_tar
from videodpo.storage.video import decode_squares, read_mp4, write_mp4


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> list[str]:
    return tiny_tag2text(tmp_path_factory.mktemp("tag2text"))


@pytest.fixture(autouse=True)
def tiny(monkeypatch) -> None:
    monkeypatch.setattr(Tag2TextCaptions, "sizes", TINY)


@pytest.fixture
def scene(weights) -> Scene:
    return scorer_of(Scene, weights)


@pytest.fixture
def all_frames(weights) -> SceneAllFrames:
    return scorer_of(SceneAllFrames, weights)


def scorer_of(kind, weights):
    return kind(validate(kind.Options, {"weights": weights}), "cpu")


def clip_in(folder: Path, num_frames: int, scene: str = "street") -> Clip:
    """A clip whose frames all differ."""
    coarse = np.random.default_rng(num_frames).integers(0, 256, (num_frames, 4, 6, 3), dtype=np.uint8)
    path = folder / f"{num_frames}.mp4"
    write_mp4(path, coarse.repeat(16, axis=1).repeat(16, axis=2), 8.0)
    return Clip(*read_mp4(path), "", path, {"scene": scene})


def without_frames(num_frames: int, scene: str) -> Clip:
    return Clip(np.zeros((num_frames, 4, 4, 3), np.uint8), 8.0, "", Path("clip.mp4"), {"scene": scene})


@pytest.mark.parametrize(
    ("places", "share"), [([0], 3 / 16), ([4], 3 / 16), ([5], 1 / 16), ([1, 5], 4 / 16), ([], 0), (range(6), 1)]
)
def test_scene_counts_each_of_the_first_five_frames_three_times_and_the_sixth_once(scene, places, share):
    captions = ["a street" if place in places else "a dog" for place in range(6)]
    assert scene.value(without_frames(20, "street"), {0: captions}) == share


def test_scene_repeats_the_last_frame_of_a_short_clip(scene):
    assert scene.value(without_frames(2, "street"), {0: ["a dog", "a street"]}) == 13 / 16


def test_scene_of_all_frames_counts_each_frame_once(all_frames):
    clip = without_frames(20, "street")
    captions = {0: ["a street"] * 2 + ["a dog"] * 4, 1: ["a dog"] * 9 + ["street"]}
    assert all_frames.value(clip, captions) == 3 / 16
    assert all_frames.value(without_frames(2, "street"), {0: ["a dog", "a street"]}) == 1 / 2


@pytest.mark.parametrize(
    ("name", "caption", "is_there"),
    [
        ("street", "a dog on a street", True),
        ("street", "two streets", True),  # a part of a word is enough
        ("zebra crossing", "a crossing with a zebra", True),  # in any order
        ("zebra crossing", "a zebra", False),
        ("Street", "a street", False),
    ],
)
def test_caption_needs_every_word_of_the_scene(scene, name, caption, is_there):
    assert scene.value(without_frames(1, name), {0: [caption]}) == float(is_there)


@pytest.mark.parametrize(
    ("num_frames", "first", "second"),
    [
        (1, [0], []),
        (6, [0, 1, 2, 3, 4, 5], []),
        (9, [0, 1, 2, 3, 4, 5], [6, 7, 8]),
        (40, [0, 3, 5, 8, 10, 13], [15, 18, 20, 23, 25, 28, 30, 33, 35, 38]),
    ],
)
def test_parts_are_the_first_six_sampled_frames_and_the_others(scene, tmp_path, num_frames, first, second):
    clip, backbone = clip_in(tmp_path, num_frames), scene.backbone
    expected = [decode_squares(clip.path.read_bytes(), "clip", part, TINY.side) for part in (first, second) if part]
    assert backbone.num_parts(clip) == len(expected)
    for part, frames_THWC in enumerate(expected):
        assert np.array_equal(backbone.frames(clip, part).permute(0, 2, 3, 1).numpy(), frames_THWC)


def test_two_dimensions_share_their_captions_and_have_the_scores_of_each_alone(
    scene, all_frames, tmp_path, monkeypatch
):
    clips = [clip_in(tmp_path, num_frames) for num_frames in (2, 9, 20)]
    asked = []
    captions = Tag2TextCaptions.captions
    monkeypatch.setattr(
        Tag2TextCaptions, "captions", lambda self, frames: asked.append(len(frames)) or captions(self, frames)
    )
    together = score_clips([scene, all_frames], clips)
    assert sorted(asked) == [2, 3, 6, 6, 10]
    assert [score_clips([scene], clips)[0], score_clips([all_frames], clips)[0]] == together
    assert all(isinstance(score, float) for scores in together for score in scores)


def test_clip_in_a_tar_file_has_the_same_captions(scene, tmp_path):
    clip = clip_in(tmp_path, 3)
    members = [("first.mp4", b"other bytes"), ("clip.mp4", clip.path.read_bytes())]
    _, suffix = write_tar(tmp_path / "clips.tar", members)
    inside = Clip(clip.frames_THWC, clip.fps, "", tmp_path / f"clips.tar{suffix}", clip.info)
    assert scene.backbone.outputs([(inside, 0)]) == scene.backbone.outputs([(clip, 0)])


@torch.no_grad()
def test_caption_is_as_likely_as_the_decoder_says_without_a_cache(scene, tmp_path):
    backbone = scene.backbone
    image = backbone.network.image_tokens(backbone.frames(clip_in(tmp_path, 6), 0))
    states = backbone.tag_states(backbone.tags(backbone.network.tag_logits(image)), image)
    texts = backbone.texts(states)
    assert len({tuple(tokens) for _, tokens in texts}) > 1
    for (score, tokens), one in zip(texts, states, strict=True):
        ended = tokens if len(tokens) == 30 else [*tokens, 3]
        logits = backbone.network.text_decoder(torch.tensor([ended]), encoder_hidden_states=one[None]).logits[0]
        steps = logits.log_softmax(-1)[torch.arange(3, len(ended) - 1), ended[4:]]
        assert score == pytest.approx(float(steps.sum()) / len(tokens), abs=1e-4)
        assert tokens[:4] == [17, 5, 6, 7]  # the authors' own token, and "a picture of"


def test_tags_are_those_above_the_threshold_without_numerals(scene):
    logits = torch.full((2, 130), -3.0)
    logits[0, [1, 4, LEFT_OUT[0]]], logits[0, 2] = 0.85, 0.84  # sigmoid 0.7006 and 0.6985
    assert scene.backbone.tags(logits) == ["street | crossing", ""]


@torch.no_grad()
def test_tags_are_encoded_as_40_tokens_and_change_the_caption_s_states(scene, tmp_path):
    backbone = scene.backbone
    image = backbone.network.image_tokens(backbone.frames(clip_in(tmp_path, 2), 0))
    few, many = (backbone.tag_states([tags] * 2, image) for tags in ("dog", " | ".join(["street"] * 40)))
    assert few.shape == many.shape == (2, 40, 32)
    assert not torch.allclose(few, many, atol=1e-2)


@pytest.mark.parametrize("info", [{}, {"scene": " "}])
def test_clip_without_its_scene_is_refused(scene, tmp_path, info):
    clip = clip_in(tmp_path, 2)
    with pytest.raises(InputError, match=r"--info '\{\"scene\": \"alley\"\}'"):
        scene.score(Clip(clip.frames_THWC, clip.fps, "a dog in an alley", clip.path, info))


def test_clip_without_a_file_is_refused(all_frames, tmp_path):
    clip = clip_in(tmp_path, 2)
    with pytest.raises(InputError, match="the clip has no file"):
        all_frames.score(Clip(clip.frames_THWC, clip.fps, "", None, clip.info))
    with pytest.raises(InputError, match=r"gone\.mp4: No such file"):
        all_frames.score(Clip(clip.frames_THWC, clip.fps, "", tmp_path / "gone.mp4", clip.info))


@pytest.mark.parametrize(
    ("place", "text", "message"),
    [
        (0, "no checkpoint", "neither safetensors nor a file of torch.save"),
        (1, "a\npicture\nof", r"has no line \[PAD\]; it is not a vocabulary of BERT"),
        (1, "<!DOCTYPE html>", "is a web page"),
        (2, "dog\nstreet", r"label_embed.weight is \(130, 32\), \(2, 32\) is needed"),
    ],
)
def test_wrong_weights_are_refused(weights, tmp_path, place, text, message):
    wrong = tmp_path / "wrong.txt"
    wrong.write_text(text)
    with pytest.raises(InputError, match=message):
        scorer_of(Scene, [*weights[:place], str(wrong), *weights[place + 1 :]])


def test_missing_list_is_refused_before_a_job_starts_unless_it_can_be_fetched(weights, tmp_path):
    for location in ("tags", str(tmp_path)):
        with pytest.raises(InputError, match="is neither a file nor a folder with"):
            Scene.check(validate(Scene.Options, {"weights": [*weights[:2], location]}))
    Scene.check(Scene.Options())


def test_vocabulary_may_be_named_by_its_folder(weights):
    folder = [weights[0], str(Path(weights[1]).parent), weights[2]]
    assert scorer_of(Scene, folder).backbone is scorer_of(Scene, weights).backbone


def test_weights_that_are_not_finite_have_no_score(weights, tmp_path):
    content = torch.load(weights[0], weights_only=True)
    content["model"]["visual_encoder.norm.weight"].fill_(torch.nan)
    torch.save(content, tmp_path / "broken.pth")
    with pytest.raises(InputError, match="not finite"):
        scorer_of(Scene, [str(tmp_path / "broken.pth"), *weights[1:]]).score(clip_in(tmp_path, 2))
