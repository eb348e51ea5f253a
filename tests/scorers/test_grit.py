"""GRiT at tiny size with random weights in the published layout, and the scores of made-up detections."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEncoder

from videodpo.config.errors import InputError
from videodpo.config.section import validate
from videodpo.scorers.base import NO_RESULT, Clip
from videodpo.scorers.color import Color
from videodpo.scorers.multiple_objects import MultipleObjects
from videodpo.scorers.networks.grit import Grit, GritFrames, GritNetwork, seen_size
from videodpo.scorers.networks.grit_detector import GritSizes, chosen, pooled
from videodpo.scorers.networks.grit_text import CAPTION, END, LIMIT, NAME, TextDecoder
from videodpo.scorers.object_class import ObjectClass
from videodpo.scorers.shared.backbone import score_clips
from videodpo.scorers.shared.box_positions import intersection_over_union
from videodpo.scorers.shared.grit import Detection
from videodpo.scorers.spatial_relationship import SpatialRelationship
from videodpo.scorers.spatial_relationship_signed import SpatialRelationshipSigned
from videodpo.weights.locations import check_name

TINY = GritSizes(
    width=32,
    depth=3,
    heads=2,
    image_side=64,
    channels=64,
    box_width=16,
    text_width=24,
    text_depth=2,
    text_heads=2,
    text_inner=48,
    num_words=120,
    num_positions=50,
)
WORDS = ["[PAD]", *(f"word{k}" for k in range(1, 100)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS += ["[unused]", "red", "blue", "cat", "dog", "car", "##pet", "'", "s", *(f"other{k}" for k in range(113, 120))]
KINDS = [ObjectClass, MultipleObjects, SpatialRelationship, SpatialRelationshipSigned, Color]
SIDES = {"object_a": "cat", "object_b": "dog", "relationship": "on the left of"}
INFO = {"object": "cat and dog", "color": "red", **SIDES}

_PUBLISHED = (
    (r"^backbone\.levels\.(\d+)\.", r"backbone.fpn_stride\1_"),
    (r"^(backbone\.bottom_up)\.embeddings\.projection\.", r"\1.patch_embed.proj."),
    (r"^(backbone\.bottom_up)\.embeddings\.position_embeddings", r"\1.pos_embed"),
    (r"^(backbone\.bottom_up)\.encoder\.layer\.(\d+)\.", r"\1.blocks.\2."),
    (r"\.attention\.(qkv|proj|rel_pos)", r".attn.\1"),
    (r"^proposals\.", "proposal_generator.centernet_head."),
    (r"^cascade\.", "roi_heads."),
    (r"^decoder\.layers\.", "decoder.transformer.encoder.layer."),
    (r"^decoder\.", "roi_heads.text_decoder.textual."),
)


def published_name(name: str) -> str:
    for pattern, replacement in _PUBLISHED:
        name = re.sub(pattern, replacement, name)
    return name


@pytest.fixture(autouse=True)
def tiny_sizes(monkeypatch):
    monkeypatch.setattr(Grit, "sizes", TINY)


@pytest.fixture(scope="module")
def network() -> GritNetwork:
    torch.manual_seed(0)
    found = GritNetwork(TINY).eval().requires_grad_(False)
    for name, value in found.state_dict().items():
        if "norm" not in name.lower() and name.endswith("weight") and value.ndim > 1:
            value.mul_(2)
    for predictor in found.cascade.box_predictor:
        predictor["cls_score"].bias.copy_(torch.tensor([-1.4, 0.0]))  # few boxes
    found.decoder.output.bias[END] += 1.0
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory, network) -> Path:
    """Folder with a checkpoint in the published layout, and a vocabulary."""
    made = tmp_path_factory.mktemp("grit")
    tensors = {published_name(name): value for name, value in network.state_dict().items()}
    tensors["roi_heads.mask_head.predictor.bias"] = torch.zeros(1)
    torch.save({"model": tensors, "iteration": 3}, made / "grit_b_densecap_objectdet.pth")
    (made / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return made


def scorer_of(kind: Any, folder: Path) -> Any:
    return kind(validate(kind.Options, {"weights": [str(folder), str(folder / "vocab.txt")]}), "cpu")


def clip_of(num_frames: int = 5, info: dict[str, str] = INFO, size: tuple[int, int] = (70, 100), seed: int = 3) -> Clip:
    frames = np.random.default_rng(seed).integers(0, 256, (num_frames, *size, 3), dtype=np.uint8)
    return Clip(frames, 8.0, "a red cat", info=info)


def test_the_full_network_has_the_published_names_and_shapes():
    """The digest is that of the tensors of VBench 45e79ec's own network, without the mask head."""
    with torch.device("meta"):
        tensors = GritNetwork(GritSizes()).state_dict()
    lines = sorted(f"{published_name(name)} {'x'.join(map(str, value.shape))}" for name, value in tensors.items())
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert (len(lines), digest) == (355, "2d901f5a08bd472ffce2394bf3d6244bec10e8564e2f8b17442cca99a766eb7c")


def test_names_of_the_checkpoint_are_checked(folder, tmp_path):
    tensors = torch.load(folder / "grit_b_densecap_objectdet.pth", weights_only=True)["model"]
    path = tmp_path / "weights.pth"
    torch.save({"model": tensors | {"roi_heads.new.bias": torch.zeros(1)}}, path)
    with pytest.raises(ValueError, match=r"not those of GritNetwork: cascade\.new\.bias is not known"):
        Grit(path, folder / "vocab.txt", "cpu")
    del tensors["backbone.fpn_stride_16_8.weight"]
    torch.save({"model": tensors}, path)
    with pytest.raises(ValueError, match=r"fpn_stride_16_8\.weight is missing"):
        Grit(path, folder / "vocab.txt", "cpu")


def test_the_vocabulary_must_have_the_networks_words(folder, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"vocab.txt: it has 119 words, GRiT was trained with the 120"):
        Grit(folder / "grit_b_densecap_objectdet.pth", tmp_path / "vocab.txt", "cpu")


def test_weights_are_two_files_or_their_folders(folder, tmp_path):
    options = validate(ObjectClass.Options, {"weights": [str(folder), str(folder)]})
    assert ObjectClass.files(options) == (folder / "grit_b_densecap_objectdet.pth", folder / "vocab.txt")
    for location in validate(ObjectClass.Options, {}).weights:
        check_name(location)
    ObjectClass.check(validate(ObjectClass.Options, {}))  # not fetched yet
    with pytest.raises(ValueError, match=r"neither a file nor a folder with vocab\.txt"):
        ObjectClass.check(validate(ObjectClass.Options, {"weights": [str(folder), str(tmp_path)]}))
    (tmp_path / "vocab.txt").write_text("<!doctype html>")
    with pytest.raises(ValueError, match=r"vocab.txt is a web page"):
        ObjectClass.check(validate(ObjectClass.Options, {"weights": [str(folder), str(tmp_path)]}))


def plain_texts(decoder: TextDecoder, features: torch.Tensor, first: int) -> list[list[int]]:
    """Texts from entire sequences through transformers' BERT, box by box, with nothing kept between the steps."""
    config = BertConfig(hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    config._attn_implementation = "eager"
    bert = BertEncoder(config).eval()
    prefix = "layers."
    names = {
        name.removeprefix(prefix): value for name, value in decoder.state_dict().items() if name.startswith(prefix)
    }
    bert.layer.load_state_dict(names)
    found = []
    for box in features:
        tokens = [first]
        while len(tokens) < LIMIT and tokens[-1] != END:
            cells = decoder.object_feature_projection(box.flatten(1).t())
            places = torch.arange(len(tokens))
            words = decoder.embedding["words"](torch.tensor(tokens)) + decoder.embedding["positions"](places)
            states = torch.cat([cells, decoder.embedding["layer_norm"](words)])[None]
            mask = torch.zeros(states.shape[1], states.shape[1])
            mask[: len(cells), len(cells) :] = -torch.inf
            mask[len(cells) :, len(cells) :] = torch.full((len(tokens), len(tokens)), -torch.inf).triu(1)
            logits = decoder.output(bert(states, attention_mask=mask[None, None])[0][0, -1])
            if len(tokens) > 1:
                logits[tokens[-1]] = -torch.inf
            tokens.append(int(logits.argmax()))
        found.append(tokens)
    return found


@torch.no_grad()
@pytest.mark.parametrize("first", [NAME, CAPTION])
def test_texts_are_those_of_a_plain_bert(network, first):
    features = 3 * torch.randn(6, 64, 4, 4, generator=torch.Generator().manual_seed(1))
    memory = network.decoder.memory(features)
    network.decoder.texts(memory, CAPTION)  # leaves its tokens in the memory
    found = network.decoder.texts(memory, first)
    expected = plain_texts(network.decoder, features, first)
    assert len({tuple(tokens) for tokens in expected}) > 1
    length = max(map(len, expected))
    assert found.tolist() == [tokens + [END] * (length - len(tokens)) for tokens in expected]


def talkative(biases: dict[int, float]) -> TextDecoder:
    """A decoder whose words depend on nothing but these biases."""
    decoder = TextDecoder(TINY).eval().requires_grad_(False)
    decoder.output.weight.zero_()
    decoder.output.bias.copy_(torch.tensor([biases.get(word, 0.0) for word in range(TINY.num_words)]))
    return decoder


@torch.no_grad()
@pytest.mark.parametrize(
    ("biases", "tokens"),
    [
        ({7: 2.0, 8: 1.0}, [NAME, *[7, 8] * 19, 7]),  # 40 in all, and none after itself
        ({NAME: 2.0, END: 1.0}, [NAME, NAME, END]),  # the first token may follow itself
        ({7: 2.0, END: 1.0}, [NAME, 7, END]),
        ({END: 1.0}, [NAME, END]),
    ],
)
def test_a_text_has_at_most_40_tokens_and_repeats_none_at_once(biases, tokens):
    decoder = talkative(biases)
    assert decoder.texts(decoder.memory(torch.randn(2, 64, 3, 3)), NAME).tolist() == [tokens] * 2


def test_words_are_joined_as_by_bert(folder):
    grit = Grit(folder / "grit_b_densecap_objectdet.pth", folder / "vocab.txt", "cpu")
    grit.network.decoder.texts = lambda memory, first: torch.tensor([[101, 107, 110, 111, 112, 108, 102, 102]])
    assert grit._texts([], NAME) == ["catpet's dog"]
    grit.network.decoder.texts = lambda memory, first: torch.tensor([[101, 102]])
    assert grit._texts([], NAME) == [""]


@torch.no_grad()
def test_boxes_are_within_the_frame_and_overlap_little(network):
    size = (70, 100)
    frames = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    _, boxes, frame = network(frames)
    assert frame.tolist() == sorted(frame.tolist())
    assert set(frame.tolist()) == {0, 1}
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= torch.tensor([100.0, 70.0])).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) > 0).all()
    for number in range(2):
        own = boxes[frame == number]
        assert (box_iou(own, own) - torch.eye(len(own))).max() <= 0.5


def test_final_boxes_are_those_above_the_threshold_best_first():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 9], [-5, 0, 30, 30], [40, 0, 60, 5], [20, 0, 25, 5], [0, 20, 5, 30]]
    scores = [0.6, 0.9, 0.8, 0.95, 0.5, 0.99]
    here = torch.tensor([True, True, True, True, True, False])
    kept = chosen(torch.tensor(boxes, dtype=torch.float), torch.tensor(scores), here, (30, 40))
    # The first overlaps the second; the fourth is beyond the frame; the fifth is not above 0.5; the last is elsewhere.
    assert kept.tolist() == [1, 2]


def test_a_box_is_pooled_from_the_level_of_its_size():
    maps = [torch.full((1, 1, 64 // 2**level, 64 // 2**level), float(level)) for level in range(5)]
    boxes = torch.tensor([[0.0, 0, 20, 20], [0, 0, 200, 200], [0, 0, 224, 224], [0, 0, 460, 460], [0, 0, 9, 0]])
    found = pooled(maps, boxes, torch.zeros(5, dtype=torch.long), 2)
    assert found[:, 0, 0, 0].tolist() == [0, 0, 1, 2, 0]


@torch.no_grad()
def test_frames_are_padded_by_zeros_on_the_right_and_below(network, monkeypatch):
    seen = []
    forward = network.backbone.forward
    monkeypatch.setattr(network.backbone, "forward", lambda frames: seen.append(frames) or forward(frames))
    frames = torch.randn(1, 3, 70, 100)
    network(frames)
    assert seen[0].shape == (1, 3, 96, 128)
    assert torch.equal(seen[0][..., :70, :100], frames)
    assert not seen[0][..., 70:, :].any()
    assert not seen[0][..., 100:].any()


def test_frames_of_a_batch_have_the_objects_of_single_frames(folder):
    grit = Grit(folder / "grit_b_densecap_objectdet.pth", folder / "vocab.txt", "cpu")
    frames = clip_of(3).pixels("cpu").float()
    together = grit.found(frames, captions=True)
    assert together == [grit.found(frame[None], captions=True)[0] for frame in frames]
    assert [[one.name for one in found] for found in grit.found(frames, captions=False)] == [
        [one.name for one in found] for found in together
    ]
    assert any(one.name != one.caption for found in together for one in found)
    grit._boxes_per_batch = 2
    assert grit.found(frames, captions=True) == together


def test_a_frame_without_objects_has_none(folder, monkeypatch):
    monkeypatch.setattr("videodpo.scorers.networks.grit_detector.LEAST_SCORE", 2.0)
    grit = Grit(folder / "grit_b_densecap_objectdet.pth", folder / "vocab.txt", "cpu")
    assert grit.found(clip_of(2).pixels("cpu").float(), captions=True) == [[], []]
    monkeypatch.setattr("videodpo.scorers.networks.grit_detector.LEAST_HEAT", 2.0)
    assert grit.found(clip_of(2).pixels("cpu").float(), captions=True) == [[], []]


@pytest.mark.parametrize(
    "name", ["proposals.agn_hm.bias", "cascade.box_predictor.2.cls_score.bias", "decoder.output.bias"]
)
def test_output_that_is_not_finite_fails_and_is_not_a_frame_without_objects(folder, name):
    grit = Grit(folder / "grit_b_densecap_objectdet.pth", folder / "vocab.txt", "cpu")
    grit.network.get_parameter(name).fill_(float("nan"))
    with pytest.raises(InputError, match="GRiT's output is not finite"):
        grit.found(clip_of(1).pixels("cpu").float(), captions=False)


@pytest.mark.parametrize(
    ("size", "seen"), [((768, 1366), (768, 1366)), ((800, 1000), (720, 900)), ((1921, 1080), (1280, 720))]
)
def test_frames_with_a_shorter_side_above_768_are_resized_to_720(size, seen):
    assert seen_size(*size) == seen


@pytest.mark.parametrize(
    ("captions", "mean", "first", "along"),
    [
        (False, 127.52083, [104.21901, 71.811989, 51.79546, 116.27068], "x"),
        (True, 127.40028, [100, 143, 196, 61], "channels"),
    ],
)
def test_large_frames_have_the_pixels_of_the_original(folder, captions, mean, first, along):
    """The numbers are those of VBench's two resizes, on torchvision 0.19.1 and OpenCV 4.11."""
    frames = np.random.RandomState(5).randint(0, 256, (1, 800, 1000, 3), dtype=np.uint8)
    files = folder / "grit_b_densecap_objectdet.pth", folder / "vocab.txt"
    found = GritFrames.shared(*files, "cpu", captions).seen([(Clip(frames, 8.0, ""), 0)])
    assert found.shape == (1, 3, 720, 900)
    assert float(found.double().mean()) == pytest.approx(mean, abs=1e-5)
    values = found[0, 0, 0] if along == "x" else found[0].permute(1, 2, 0).flatten()
    assert values[:4].tolist() == pytest.approx(first, abs=1e-4)


def test_dimensions_on_names_take_one_pass_over_different_frames(folder, monkeypatch):
    passes = []
    answer = GritFrames.outputs
    monkeypatch.setattr(
        GritFrames, "outputs", lambda self, parts: passes.extend((self, n) for _, n in parts) or answer(self, parts)
    )
    scorers = [scorer_of(kind, folder) for kind in KINDS]
    names, captions = scorers[0].backbone, scorers[-1].backbone
    results = score_clips(scorers, [clip_of(2), clip_of(20)])
    frames = [0, 1, 0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18]
    assert [number for one, number in passes if one is names] == frames
    assert [number for one, number in passes if one is captions] == frames
    assert all(isinstance(value, float) for values in results[:4] for value in values)


def test_clips_of_other_dimensions_cost_nothing(folder, monkeypatch):
    monkeypatch.setattr(GritFrames, "outputs", lambda self, parts: pytest.fail("the network ran"))
    results = score_clips([scorer_of(kind, folder) for kind in KINDS], [clip_of(info={"scene": "alley"})])
    assert [str(values[0]) for values in results] == [
        "the clip's info has no object; give it with --info",
        "the clip's info has no object; give it with --info",
        "the clip's info has no object_a and no object_b and no relationship; give it with --info",
        "the clip's info has no object_a and no object_b and no relationship; give it with --info",
        "the clip's info has no color; give it with --info",
    ]


@pytest.mark.parametrize(
    ("kind", "info", "message"),
    [
        (ObjectClass, {"object": " "}, "has no object; give it with --info"),
        (MultipleObjects, {"object": "cat"}, "object is 'cat'; multiple_objects needs two, like 'cat and dog'"),
        (MultipleObjects, {"object": "a and b and c"}, "multiple_objects needs two"),
        (
            SpatialRelationship,
            SIDES | {"relationship": "near"},
            "relationship is 'near'; it must be one of on the left",
        ),
        (SpatialRelationshipSigned, SIDES | {"object_b": ""}, "has no object_b; give it with --info"),
        (Color, {"color": "brown"}, "color is 'brown'; it must be one of white, red, pink"),
    ],
)
def test_a_clip_without_its_info_is_refused(folder, kind, info, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        scorer_of(kind, folder).score(clip_of(info=info))


def found(*names: str, captions: Sequence[str] = ()) -> list[Detection]:
    texts = captions or [""] * len(names)
    return [Detection((0, 0, 1, 1), name, text) for name, text in zip(names, texts, strict=True)]


def score_of(
    folder: Path, kind: Any, info: dict[str, str], frames: Sequence[list[Detection]], prompt: str = ""
) -> float:
    clip = Clip(np.zeros((1, 8, 8, 3), np.uint8), 8.0, prompt, info=info)
    value: float = scorer_of(kind, folder).score_frames(clip, frames)
    return value


def test_frames_that_a_short_clip_lacks_repeat_its_last_one(folder):
    answers = {0: found("cat"), 1: [], 2: found("dog")}
    scorer = scorer_of(ObjectClass, folder)
    assert scorer.value(clip_of(3, {"object": "cat"}), answers) == 1 / 16
    assert scorer.value(clip_of(3, {"object": "dog"}), answers) == 14 / 16


@pytest.mark.parametrize(
    ("kind", "asked", "value"),
    [
        (ObjectClass, "cat", 2 / 4),
        (ObjectClass, "black cat", 1 / 4),
        (ObjectClass, "ca", 0.0),
        (MultipleObjects, "cat and dog", 1 / 4),
        (MultipleObjects, "dog and  cat ", 1 / 4),
        (MultipleObjects, "dog and dog", 2 / 4),
        (MultipleObjects, "cat and car", 0.0),
    ],
)
def test_names_must_be_equal(folder, kind, asked, value):
    frames = [found("cat", "dog"), found("cat", "cat"), found("black cat", "dog"), []]
    assert score_of(folder, kind, {"object": asked}, frames) == value


@pytest.mark.parametrize(
    ("frames", "value"),
    [
        ([found("cat", captions=["a red cat"]), found("cat", captions=["a blue cat"])], 1 / 2),
        # A frame without any color does not count, nor one whose first box is something else, nor an empty one.
        ([found("cat", captions=["a red cat"]), found("cat", captions=["a cat"]), []], 1.0),
        ([found("cat", captions=["a red cat"]), found("dog", "cat", captions=["a dog", "a blue cat"])], 1.0),
        # All captions of a frame count, whatever they describe, and a part of a word is a color.
        ([found("cat", "dog", captions=["a cat", "a red dog"])], 1.0),
        ([found("cat", captions=["a tired cat"])], 1.0),
    ],
)
def test_color_is_that_of_any_caption_in_a_frame_whose_first_box_is_the_object(folder, frames, value):
    assert score_of(folder, Color, {"color": "red"}, frames, "a red cat") == value


@pytest.mark.parametrize(
    ("prompt", "color", "object_name"),
    [("a red car", "red", "car"), ("an orange bowl", "orange", "bowl"), ("a pink umbrella", "pink", "umbrella")],
)
def test_the_colored_object_is_what_remains_of_the_prompt(folder, prompt, color, object_name):
    frames = [found(object_name, captions=[f"the {color} {object_name}"])]
    assert score_of(folder, Color, {"color": color}, frames, prompt) == 1.0


@pytest.mark.parametrize("frames", [[[]], [found("dog", captions=["a red dog"])], [found("cat", captions=["a cat"])]])
def test_a_clip_that_never_shows_the_object_has_no_color(folder, frames):
    with pytest.raises(ValueError, match=rf"^{NO_RESULT}no frame shows the object 'cat' with a color$"):
        score_of(folder, Color, {"color": "red"}, frames, "a red cat")


def at(name: str, *box: int) -> Detection:
    return Detection((box[0], box[1], box[2], box[3]), name, "")


CAT, DOG = at("cat", 0, 0, 10, 10), at("dog", 30, 5, 40, 15)  # the cat is on the left, and a little higher


@pytest.mark.parametrize(
    ("relationship", "frame", "plain", "signed"),
    [
        ("on the left of", [CAT, DOG], 1.0, 1.0),
        ("on the left of", [DOG, CAT], 1.0, 1.0),
        ("on the right of", [CAT, DOG], 1.0, 0.0),  # the sign is never used
        ("on the top of", [CAT, DOG], 0.0, 0.0),
        ("on the top of", [at("cat", 0, 0, 4, 4), at("dog", 2, 20, 6, 24)], 1.0, 1.0),
        ("on the bottom of", [at("cat", 0, 0, 4, 4), at("dog", 2, 20, 6, 24)], 1.0, 0.0),
        ("on the bottom of", [at("dog", 0, 0, 4, 4), at("cat", 2, 20, 6, 24)], 1.0, 1.0),
        ("on the left of", [CAT, at("cat", 30, 5, 40, 15)], 1.0, 0.0),  # two of the same object are a pair
        ("on the left of", [CAT], 0.0, 0.0),
        ("on the left of", [CAT, at("car", 30, 5, 40, 15)], 0.0, 0.0),
        ("on the left of", [], 0.0, 0.0),
        ("on the left of", [at("cat", 0, 0, 4, 4), at("dog", 20, 20, 24, 24)], 0.0, 0.0),  # as far across as along
        ("on the left of", [at("cat", 0, 0, 12, 10), at("dog", 6, 0, 18, 10)], 0.3, 0.3),  # overlap 1/3
        ("on the left of", [at("cat", 0, 0, 10, 10), at("dog", 9, 0, 19, 10)], 1.0, 1.0),  # overlap 1/19
        ("on the left of", [at("cat", 0, 0, 12, 10), at("dog", 6, 0, 18, 10), DOG], 1.0, 1.0),  # the best pair
        ("on the left of", [at("cat", 3, 4, 3, 8), at("dog", 9, 4, 9, 8)], 1.0, 1.0),  # two boxes without area
    ],
)
def test_position_of_the_best_pair(folder, relationship, frame, plain, signed):
    info = SIDES | {"relationship": relationship}
    assert score_of(folder, SpatialRelationship, info, [frame]) == pytest.approx(plain)
    assert score_of(folder, SpatialRelationshipSigned, info, [frame]) == pytest.approx(signed)
    assert score_of(folder, SpatialRelationship, info, [frame, []]) == pytest.approx(plain / 2)


def test_intersection_over_union():
    assert intersection_over_union((0, 0, 4, 4), (2, 2, 6, 6)) == pytest.approx(4 / 28)
    assert intersection_over_union((0, 0, 4, 4), (5, 5, 6, 6)) == 0.0
    assert intersection_over_union((1, 1, 1, 5), (1, 1, 1, 5)) == 0.0


def test_batches_become_smaller_with_larger_frames(folder, monkeypatch):
    backbone = scorer_of(ObjectClass, folder).backbone
    assert backbone.batch_size(128, 192) == 1  # on a CPU
    monkeypatch.setattr(backbone, "_batch_size", 32)
    monkeypatch.setattr(Grit, "sizes", GritSizes())
    sizes = [(128, 192), (320, 512), (480, 832), (720, 1280), (2160, 3840)]
    assert [backbone.batch_size(*size) for size in sizes] == [32, 32, 9, 1, 1]
