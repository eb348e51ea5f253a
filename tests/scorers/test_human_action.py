"""Human action with a tiny UMT: two blocks of width 64 in the published layout."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from videodpo.scorers.base import Clip
from videodpo.scorers.human_action import HumanAction
from videodpo.scorers.networks import umt
from videodpo.scorers.networks.umt import UmtActions, crops, default_positions
from videodpo.scorers.shared.human_actions import named_action, read_actions

WIDTH, DEPTH, HEADS = 64, 2, 2
ACTIONS = ["riding a bike", "marching", "Passing a ball", "ice skating", "push up", "yoga", "tai chi"]


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch):
    monkeypatch.setattr(UmtActions, "sizes", {"width": WIDTH, "depth": DEPTH, "num_heads": HEADS})


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """A checkpoint with the published names, without positions."""
    torch.manual_seed(0)
    draw = {
        "patch_embed.proj.weight": (WIDTH, 3, 1, 16, 16),
        "patch_embed.proj.bias": (WIDTH,),
        "fc_norm.weight": (WIDTH,),
        "fc_norm.bias": (WIDTH,),
        "head.weight": (len(ACTIONS), WIDTH),
        "head.bias": (len(ACTIONS),),
    }
    for number in range(DEPTH):
        block = {"attn.q_bias": (WIDTH,), "attn.v_bias": (WIDTH,), "attn.qkv.weight": (3 * WIDTH, WIDTH)}
        layers = {"attn.proj": (WIDTH, WIDTH), "mlp.fc1": (4 * WIDTH, WIDTH), "mlp.fc2": (WIDTH, 4 * WIDTH)}
        for name, shape in layers.items():
            block |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
        for name in ("norm1", "norm2"):
            block |= {f"{name}.weight": (WIDTH,), f"{name}.bias": (WIDTH,)}
        draw |= {f"blocks.{number}.{name}": shape for name, shape in block.items()}
    return {name: torch.randn(shape) / math.sqrt(math.prod(shape[1:])) for name, shape in draw.items()}


@pytest.fixture
def scorer_of(tmp_path):
    """Function: the scorer with this checkpoint."""
    (tmp_path / "actions.txt").write_text("".join(f"{name}\t{number}\n" for number, name in enumerate(ACTIONS)))

    def scorer(tensors: dict[str, torch.Tensor]) -> HumanAction:
        torch.save(tensors, tmp_path / "umt.pth")
        UmtActions.shared.cache_clear()
        weights = [str(tmp_path / name) for name in ("umt.pth", "actions.txt")]
        return HumanAction(HumanAction.Options(weights=weights), "cpu")

    return scorer


def clip_of(num_frames: int, height: int = 60, width: int = 90, prompt: str = "A person is yoga") -> Clip:
    return Clip(np.random.default_rng(3).integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8), 8.0, prompt)


@torch.no_grad()
def plain(tensors: dict[str, torch.Tensor], inputs_CTHW: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Probabilities by the formulas, without any library's blocks."""

    def norm(states, name):
        return torch.nn.functional.layer_norm(
            states, (WIDTH,), tensors[f"{name}.weight"], tensors[f"{name}.bias"], eps=1e-6
        )

    def linear(states, name):
        return states @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    patches = inputs_CTHW.unfold(2, 16, 16).unfold(3, 16, 16).permute(1, 2, 3, 0, 4, 5).flatten(3).flatten(0, 2)
    states = patches @ tensors["patch_embed.proj.weight"].flatten(1).T + tensors["patch_embed.proj.bias"] + positions[0]
    for block in (f"blocks.{number}" for number in range(DEPTH)):
        projected = norm(states, f"{block}.norm1") @ tensors[f"{block}.attn.qkv.weight"].T
        query, key, value = projected.view(len(states), 3, HEADS, -1).permute(1, 2, 0, 3)
        query = query + tensors[f"{block}.attn.q_bias"].view(HEADS, 1, -1)
        value = value + tensors[f"{block}.attn.v_bias"].view(HEADS, 1, -1)
        attended = (query @ key.transpose(1, 2) / math.sqrt(WIDTH / HEADS)).softmax(dim=-1) @ value
        states = states + linear(attended.transpose(0, 1).flatten(1), f"{block}.attn.proj")
        hidden = torch.nn.functional.gelu(linear(norm(states, f"{block}.norm2"), f"{block}.mlp.fc1"))
        states = states + linear(hidden, f"{block}.mlp.fc2")
    return linear(norm(states.mean(dim=0), "fc_norm"), "head").sigmoid()


def test_probabilities_are_those_of_the_formulas(scorer_of, tensors):
    clip = clip_of(20)
    frames = clip.frames_THWC[[0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 15, 16, 17, 18]]
    expected = plain(tensors, crops(frames), default_positions(WIDTH))
    (found,) = scorer_of(tensors).backbone.outputs([(clip, 0)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert found.std() > 0.05


def test_positions_of_the_file_are_used(scorer_of, tensors):
    clip = clip_of(16)
    positions = torch.randn(1, 16 * 14 * 14, WIDTH)
    expected = plain(tensors, crops(clip.frames_THWC), positions)
    (found,) = scorer_of(tensors | {"pos_embed": positions}).backbone.outputs([(clip, 0)])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_positions_are_sinusoids_for_8_frames_interpolated_to_16():
    found = default_positions(WIDTH).view(16, 196, WIDTH)

    def row(place):
        rates = [place / 10000 ** (2 * (k // 2) / WIDTH) for k in range(WIDTH)]
        return torch.tensor([math.cos(rate) if k % 2 else math.sin(rate) for k, rate in enumerate(rates)])

    torch.testing.assert_close(found[0, 7], row(7))
    torch.testing.assert_close(found[1, 7], 0.75 * row(7) + 0.25 * row(196 + 7))
    torch.testing.assert_close(found[2, 7], 0.25 * row(7) + 0.75 * row(196 + 7))
    torch.testing.assert_close(found[15, 195], row(8 * 196 - 1))


@pytest.mark.parametrize("name", ["blocks.1.attn.q_bias", "fc_norm.bias"])
def test_a_checkpoint_without_one_tensor_is_refused(scorer_of, tensors, name):
    with pytest.raises(ValueError, match=f"{name} is missing"):
        scorer_of({key: value for key, value in tensors.items() if key != name})


def test_unknown_tensors_and_positions_of_8_frames_are_refused(scorer_of, tensors):
    with pytest.raises(ValueError, match=r"cls_token is not known"):
        scorer_of(tensors | {"cls_token": torch.zeros(1, 1, WIDTH)})
    with pytest.raises(ValueError, match=r"pos_embed is \(1, 1568, 64\), \(1, 3136, 64\) is needed"):
        scorer_of(tensors | {"pos_embed": torch.zeros(1, 8 * 196, WIDTH)})


def test_the_published_layout_has_318_tensors_and_perhaps_positions():
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in umt.Umt(400).state_dict().items()}
    assert shapes.pop("pos_embed") == (1, 3136, 1024)
    assert len(shapes) == 318
    assert shapes["blocks.23.attn.qkv.weight"] == (3072, 1024)
    assert shapes["patch_embed.proj.weight"] == (1024, 3, 1, 16, 16)
    assert shapes["head.weight"] == (400, 1024)


@pytest.mark.parametrize(
    ("probability", "value"), [(0.9, 1.0), (0.85, 1.0), (0.84996, 1.0), (0.84994, 0.0), (0.2, 0.0)]
)
def test_the_action_counts_from_85_percent_rounded_to_4_digits(scorer_of, tensors, probability, value):
    answer = torch.tensor([0.1] * 5 + [probability, 0.1])
    assert scorer_of(tensors).value(clip_of(1), {0: answer}) == value


def test_only_the_5_most_likely_actions_count(scorer_of, tensors):
    scorer = scorer_of(tensors)
    answer = torch.tensor([0.99, 0.98, 0.97, 0.96, 0.86, 0.87, 0.1])
    verdicts = [scorer.value(clip_of(1, prompt=f"A person is {name}"), {0: answer}) for name in ACTIONS]
    assert verdicts == [1, 1, 1, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("prompt", "action"),
    [
        ("A person is riding a bike", "riding a bike"),
        ("a person is PASSING a ball-3", "passing a ball"),
        ("yoga_2", "yoga"),
        ("A person is tai chi, cinematic", "tai chi, cinematic"),
    ],
)
def test_the_action_is_read_as_from_the_name_of_a_file(prompt, action):
    assert named_action(prompt) == action


@pytest.mark.parametrize("prompt", ["", "a red boat", "A person is flying"])
def test_a_prompt_without_a_known_action_is_refused_before_the_network_runs(scorer_of, tensors, prompt, monkeypatch):
    monkeypatch.setattr(UmtActions, "outputs", lambda self, parts: pytest.fail("the network ran"))
    with pytest.raises(ValueError, match="names one of the 7 actions, like 'A person is riding a bike'"):
        scorer_of(tensors).score(clip_of(16, prompt=prompt))


@pytest.mark.parametrize("size", [(60, 90), (301, 227), (256, 300), (720, 1280), (2, 300)])
def test_frames_are_resized_in_8_bits_to_256_and_cropped_to_224(size):
    frames = clip_of(2, *size).frames_THWC
    height, width = size
    new = (256, int(256 * width / height)) if height <= width else (int(256 * height / width), 256)
    top, left = (round((side - 224) / 2) for side in new)
    for frame, found_CHW in zip(frames, crops(frames).unbind(dim=1), strict=True):
        resized = cv2.resize(frame, (new[1], new[0]))[top : top + 224, left : left + 224]
        expected = (resized / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        np.testing.assert_allclose(found_CHW.permute(1, 2, 0), expected, atol=1e-6)


def test_weights_that_are_not_finite_fail(scorer_of, tensors):
    broken = tensors | {"head.bias": torch.full_like(tensors["head.bias"], float("nan"))}
    with pytest.raises(ValueError, match="not finite"):
        scorer_of(broken).score(clip_of(16))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("yoga\n", "not a list of actions"),
        ("yoga\tone\n", "not a list of actions"),
        ("".join(f"{name}\t{number + 1}\n" for number, name in enumerate(ACTIONS)), "of the 7 actions are not 0, 1, 2"),
    ],
)
def test_other_files_are_not_lists_of_actions(tmp_path, text, message):
    (tmp_path / "actions.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_actions(tmp_path / "actions.txt")


def test_actions_are_read_by_number_in_lower_case(tmp_path):
    lines = [f"{name}\t{number}" for number, name in enumerate(ACTIONS)]
    (tmp_path / "actions.txt").write_text("\n".join(reversed(lines)))
    assert read_actions(tmp_path / "actions.txt") == tuple(name.lower() for name in ACTIONS)
