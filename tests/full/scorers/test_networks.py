"""VBench's own dimensions, on networks with random weights in the published formats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from pyiqa.archs.musiq_arch import MUSIQ
from torchvision.models.optical_flow import raft_large
from torchvision.models.optical_flow._utils import make_coords_grid
from torchvision.models.optical_flow.raft import CorrBlock

from videodpo.runtime import registry
from videodpo.scorers.base import Clip
from videodpo.scorers.dynamic_degree import THRESHOLD
from videodpo.scorers.networks import amt
from videodpo.scorers.networks.amt import AmtS, warp
from videodpo.scorers.networks.raft import Raft
from videodpo.scorers.shared.backbone import arithmetic, score_clips
from videodpo.scorers.shared.flow_steps import FlowSteps, sampled_frames
from videodpo.scorers.shared.padding import pad_to_multiples
from videodpo.weights.checkpoints import load_weights, read_checkpoint

MEAN, STD = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def moving_square(num_frames: int, height: int = 128, width: int = 136, speed: int = 2, fps: float = 8.0) -> Clip:
    """A bright square on a textured background."""
    ground = np.random.default_rng(0).integers(0, 80, (height, width, 3), dtype=np.uint8)
    frames = np.stack([ground] * num_frames)
    for number, frame in enumerate(frames):
        frame[40:70, 20 + speed * number : 50 + speed * number] = (230, 60, 40)
    return Clip(frames, fps, "")


def test_a_flow_of_integer_pixels_moves_the_picture():
    image = torch.rand(1, 3, 8, 9)
    flow = torch.zeros(1, 2, 8, 9)
    flow[:, 0] = 2.0
    moved = warp(image, flow)
    torch.testing.assert_close(moved[..., :-2], image[..., 2:])
    torch.testing.assert_close(moved[..., -1], image[..., -1])


def test_padding_repeats_the_border_on_both_sides():
    frames = torch.rand(1, 3, 13, 16)
    padded, (top, left) = pad_to_multiples(frames, 8)
    assert padded.shape[-2:] == (16, 16)
    assert (top, left) == (1, 0)
    assert torch.equal(padded[..., 0, :], frames[..., 0, :])
    assert torch.equal(padded[..., top : top + 13, left : left + 16], frames)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> dict[str, Path]:
    """Files of random checkpoints, by dimension."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    networks = {
        "subject_consistency": timm.create_model("vit_base_patch16_224.dino", num_classes=0),
        "motion_smoothness": AmtS(),
        "dynamic_degree": raft_large(weights=None),
        "imaging_quality": MUSIQ(pretrained=False),
    }
    for norm in networks["dynamic_degree"].context_encoder.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):  # statistics and weights as after a training
            for tensor in (norm.running_var, norm.weight):
                tensor.data = 0.5 + torch.rand_like(tensor)
            for tensor in (norm.running_mean, norm.bias):
                tensor.data = 0.3 * torch.randn_like(tensor)
    files = {}
    for name, network in networks.items():
        files[name] = folder / f"{name}.pth"
        torch.save(network.state_dict(), files[name])
    return files | dict.fromkeys(("dynamic_flow", "static_clip"), files["dynamic_degree"])


def scorer(name: str, weights: dict[str, Path]):
    kind = registry.load("videodpo.scorers", name)
    return kind(kind.Options(weights=str(weights[name])), "cpu")


@pytest.mark.parametrize("name", ["motion_smoothness", "imaging_quality"])
def test_two_dimensions_of_one_scorer_share_its_network(weights, name):
    assert scorer(name, weights).backbone is scorer(name, weights).backbone


def test_subject_consistency_takes_any_shape_and_is_1_for_a_still_clip(weights):
    subject = scorer("subject_consistency", weights)
    moving = moving_square(3, 75, 50, speed=9)
    assert subject.score(Clip(moving.frames_THWC[[0, 0, 0]], 8.0, "")) == pytest.approx(1.0, abs=1e-5)
    assert 0 < subject.score(moving) < 1 - 1e-6
    with pytest.raises(ValueError, match="at least 2 frames"):
        subject.score(moving_square(1))


def test_position_embeddings_of_a_square_frame_are_the_networks_own(weights):
    dino = scorer("subject_consistency", weights).backbone
    assert torch.equal(dino._positions(224, 224), dino._network.pos_embed)
    assert dino._positions(224, 336).shape == (1, 1 + 14 * 21, 768)


def test_position_embeddings_of_a_nearly_square_frame_are_interpolated(weights):
    """It has 14 x 14 patches like a square, but the authors' code checks the frame's shape: 2e-3 of a score."""
    dino = scorer("subject_consistency", weights).backbone
    known, found = dino._network.pos_embed, dino._positions(224, 230)
    assert found.shape == known.shape
    assert not torch.allclose(found, known, atol=1e-4)
    grid = known[:, 1:].reshape(1, 14, 14, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, scale_factor=(14.1 / 14, 14.1 / 14), mode="bicubic")
    torch.testing.assert_close(found[:, 1:], grid.flatten(2).transpose(1, 2))


def test_class_tokens_of_a_square_frame_are_the_networks_own(weights):
    dino = scorer("subject_consistency", weights).backbone
    network = timm.create_model("vit_base_patch16_224.dino", num_classes=0).eval()
    load_weights(network, read_checkpoint(weights["subject_consistency"]), weights["subject_consistency"])
    frames = torch.randint(0, 256, (2, 3, 224, 224), dtype=torch.uint8)
    with torch.no_grad():
        expected = network((frames / 255 - MEAN) / STD)
        found = dino.encode(frames)
    torch.testing.assert_close(found, torch.nn.functional.normalize(expected, dim=-1), rtol=0, atol=1e-5)


def bilinear(frame_HWC: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize without antialias: each new pixel from its four nearest old ones."""
    found = frame_HWC.astype(np.float64)
    for axis, (old, new) in enumerate(zip(frame_HWC.shape, (height, width), strict=False)):
        place = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
        low = np.floor(place).astype(int)
        high = np.minimum(low + 1, old - 1)
        share = (place - low).reshape(-1, *[1] * (2 - axis))
        found = found.take(low, axis) * (1 - share) + found.take(high, axis) * share
    return found


@pytest.mark.parametrize(
    ("height", "width", "size"), [(100, 150, (224, 336)), (510, 301, (379, 224)), (448, 450, (224, 225))]
)
def test_dino_gets_the_entire_frame_at_224_without_antialias(weights, monkeypatch, height, width, size):
    dino = scorer("subject_consistency", weights).backbone
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    seen = []
    monkeypatch.setattr(
        dino._network.patch_embed.proj, "forward", lambda x: seen.append(x) or torch.zeros(1, 768, 1, 1)
    )
    monkeypatch.setattr(dino, "_positions", lambda height, width: torch.zeros(1, 2, 768))
    dino.encode(torch.from_numpy(frame)[None].permute(0, 3, 1, 2))
    rows, columns = (side // 16 * 16 for side in size)  # of the network, which drops partial patches
    expected = bilinear(frame, *size)[:rows, :columns] / 255
    found = (seen[0] * STD + MEAN)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_interpolated_frame_is_truncated_to_8_bits_not_rounded(weights, monkeypatch):
    smooth = scorer("motion_smoothness", weights)
    clip = Clip(np.full((3, 113, 128, 3), 100, np.uint8), 8.0, "")
    for drawn, difference in ((100.0, 0), (100.9, 0), (101.1, 1), (99.9, 1)):
        monkeypatch.setattr(smooth.backbone._network, "forward", lambda a, b, v=drawn: torch.full_like(a, v / 255))
        assert smooth.score(clip) == pytest.approx((255 - difference) / 255, abs=1e-12)


def test_amt_gets_frames_padded_to_16_by_their_border(weights, monkeypatch):
    smooth = scorer("motion_smoothness", weights)
    seen = []
    monkeypatch.setattr(smooth.backbone._network, "forward", lambda a, b: seen.append((a, b)) or a)
    clip = moving_square(5, 123, 138)
    smooth.score(clip)
    before, after = seen[0]
    assert before.shape == (2, 3, 128, 144)
    known = torch.from_numpy(clip.frames_THWC[::2]).permute(0, 3, 1, 2) / 255
    assert torch.equal(before[..., 2:125, 3:141], known[:2])
    assert torch.equal(after[..., 2:125, 3:141], known[1:])
    assert torch.equal(before[..., 0, 3:141], known[:2, :, 0])


def test_a_flow_step_is_the_mean_of_the_largest_5_percent_relative_to_the_shorter_side(weights, monkeypatch):
    flow = scorer("dynamic_flow", weights)
    field = torch.zeros(1, 2, 128, 200)
    field[:, 0, :10, :128], field[:, 1, :10, :128] = 3.0, 4.0  # exactly 5 % of the pixels move by 5
    monkeypatch.setattr(
        flow.backbone._raft, "flow", lambda frames, pairs, updates: field.expand(len(pairs), -1, -1, -1)
    )
    assert flow.score(moving_square(2, 128, 200)) == pytest.approx(5 / 128, rel=1e-6)


def test_raft_gets_frames_between_minus_1_and_1_padded_to_8(weights, monkeypatch):
    flow = scorer("dynamic_flow", weights)
    seen = []
    monkeypatch.setattr(
        flow.backbone._raft,
        "flow",
        lambda frames, pairs, updates: seen.append((frames, pairs, updates)) or frames[:2, :2],
    )
    clip = moving_square(3, 133, 130)
    flow.score(clip)
    frames, pairs, updates = seen[0]
    assert (frames.shape, pairs, updates) == ((3, 3, 136, 136), [(0, 1), (1, 2)], 20)
    assert torch.equal(
        frames[..., 1:134, 3:133], 2 * (torch.from_numpy(clip.frames_THWC).permute(0, 3, 1, 2) / 255) - 1
    )


@pytest.mark.parametrize(
    ("fps", "frames"), [(6, 9), (8, 9), (11.9, 9), (12.1, 5), (23.976, 3), (30, 3), (60, 2), (0, 9)]
)
def test_flow_takes_every_kth_frame(fps, frames):
    assert len(sampled_frames(Clip(np.zeros((9, 8, 8, 3), np.uint8), fps, ""))) == frames


def test_amt_refuses_frames_too_small_for_its_coarsest_correlation(weights):
    with pytest.raises(ValueError, match="sides of at least 113 pixels, the clip has 112 x 300"):
        scorer("motion_smoothness", weights).score(moving_square(3, 300, 112))
    assert np.isfinite(scorer("motion_smoothness", weights).score(moving_square(3, 113, 130)))


@pytest.mark.parametrize("name", ["dynamic_flow", "dynamic_degree", "static_clip"])
def test_raft_refuses_frames_too_small_for_its_coarsest_correlation(weights, name):
    with pytest.raises(ValueError, match="sides of at least 121 pixels, the clip has 120 x 300"):
        scorer(name, weights).score(moving_square(3, 300, 120))
    assert np.isfinite(scorer(name, weights).score(moving_square(3, 121, 130)))


def test_smoothness_ignores_the_last_of_an_even_number_of_frames(weights):
    smooth = scorer("motion_smoothness", weights)
    odd = moving_square(5, 113, 130)
    even = Clip(np.concatenate([odd.frames_THWC, 255 - odd.frames_THWC[-1:]]), 8.0, "")
    assert smooth.score(even) == smooth.score(odd)
    assert 0 < smooth.score(odd) < 1
    with pytest.raises(ValueError, match="at least 3 frames, the clip has 2"):
        smooth.score(moving_square(2))


def test_flow_takes_eight_frames_per_second(weights):
    flow = scorer("dynamic_flow", weights)
    slow = moving_square(3)
    fast = Clip(np.repeat(slow.frames_THWC, 3, axis=0), 24.0, "")
    assert flow.score(fast) == flow.score(slow) > 0
    with pytest.raises(ValueError, match="the clip has 1"):
        flow.score(moving_square(1))


@pytest.fixture
def degree(weights, monkeypatch):
    """Function: dynamic degree for given steps instead of RAFT's, and the number of steps that it computed."""
    scorer_ = scorer("dynamic_degree", weights)

    def score(steps: list[float]) -> tuple[float, int]:
        looked = []

        def outputs(parts):
            looked.extend(number for _, number in parts)
            return [steps[number] for _, number in parts]

        monkeypatch.setattr(scorer_.backbone, "outputs", outputs)
        return scorer_.score(moving_square(len(steps) + 1)), len(looked)

    return score


@pytest.mark.parametrize(
    ("steps", "value"),
    [([], 0.0), ([0.0], 1.0), ([0.03] + [0.0] * 5, 0.0), ([0.03, 0.03] + [0.0] * 6, 1.0), ([0.0234] * 9, 0.0)],
)
def test_dynamic_degree_counts_steps_above_the_threshold(degree, steps, value):
    """round(4 n / 16) of n frames: 0 of 2, 2 of 7 and of 9 and of 10."""
    assert degree(steps)[0] == value


@pytest.mark.parametrize(
    ("steps", "looked"),
    [([0.03] * 15, 4), ([0.0] * 15, 12), ([0.0] * 3 + [0.03] * 12, 7), ([0.03] * 3 + [0.0] * 12, 15)],
)
def test_dynamic_degree_computes_no_more_steps_than_it_needs(degree, steps, looked):
    """4 of 16 frames are needed: the answer is certain after 4 above the threshold, or 12 below."""
    assert degree(steps) == (float(sum(step > 0 for step in steps) >= 4), looked)


@pytest.mark.parametrize(("num_frames", "value"), [(1, 0.0), (2, 1.0)])
def test_dynamic_degree_of_one_or_two_frames_runs_no_network(weights, num_frames, value):
    assert scorer("dynamic_degree", weights).score(moving_square(num_frames, 80, 100)) == value


@torch.no_grad()
@pytest.mark.parametrize("size", [(16, 16), (22, 19)])  # the second is odd at its first three scales
def test_correlations_of_both_directions_are_those_of_torchvision(size):
    torch.manual_seed(0)
    first, second = torch.randn(2, 2, 84, *size)
    flows = 3 * torch.randn(2, 4, *size)
    found = amt._Correlation(first, second)(flows)
    expected = []
    # Flows point from the middle frame to the first, then to the second, each half of the way between them.
    for maps, flow in (((first, second), flows[:, 2:]), ((second, first), flows[:, :2])):
        block = CorrBlock(num_levels=4, radius=3)
        block.build_pyramid(*maps)
        expected.append(block.index_pyramid(make_coords_grid(2, *size) + 2 * flow))
    torch.testing.assert_close(found, torch.cat(expected, dim=1), rtol=0, atol=5e-5)


def test_flow_equals_torchvisions_also_for_pairs_that_share_frames(weights):
    raft = Raft(weights["dynamic_flow"], "cpu")
    network = raft_large(weights=None).eval()
    network.load_state_dict(torch.load(weights["dynamic_flow"], weights_only=True))
    frames = torch.rand(4, 3, 128, 136, generator=torch.Generator().manual_seed(1)) * 2 - 1
    pairs = [(0, 1), (1, 2), (3, 0), (1, 2)]
    found = raft.flow(frames, pairs, 6)
    with torch.no_grad():
        for (first, second), flow in zip(pairs, found, strict=True):
            expected = network(frames[first][None], frames[second][None], num_flow_updates=6)[-1][0]
            torch.testing.assert_close(flow, expected, rtol=0, atol=1e-4)


@torch.no_grad()
def test_the_static_filter_has_the_lengths_of_a_plain_loop(weights):
    """The mean of the longest 2 % of torchvision's flow, for all neighbours, then first and last in both directions."""
    network = raft_large(weights=None).eval()
    network.load_state_dict(torch.load(weights["static_clip"], weights_only=True))
    clip = moving_square(3, 133, 130)
    padded, _ = pad_to_multiples(clip.pixels("cpu").float(), 8)
    expected = []
    for first, second in ((0, 1), (1, 2), (0, 2), (2, 0)):
        images = (2 * padded[number][None] / 255 - 1 for number in (first, second))
        lengths = network(*images, num_flow_updates=20)[-1].square().sum(dim=1).sqrt().flatten().sort().values
        expected.append(float(lengths[-int(0.02 * len(lengths)) :].mean()) / 130)
    static = scorer("static_clip", weights)
    assert static.backbone.outputs([(clip, number) for number in range(4)]) == pytest.approx(expected, abs=1e-6)
    assert static.score(clip) == 0.0  # of 3 frames, no flow at all is allowed


def test_steps_near_the_threshold_are_computed_again_in_float32(weights, monkeypatch):
    """Steps of 0.95 to 1.05 thresholds are recomputed in every batch; the first pass may use TF32."""
    steps = FlowSteps(weights["dynamic_flow"], "cpu", THRESHOLD)
    looks = []
    lengths = {0: 0.5, 1: 0.96, 2: 1.04, 3: 1.2}  # relative to the threshold, by the square's position in the frames

    def flow(frames, pairs, num_updates):
        looks.append((len(pairs), torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32))
        first = len(looks) == 1
        wanted = list(lengths.values()) if first else [0.97, 1.01]
        found = torch.zeros(len(pairs), 2, *frames.shape[-2:])
        found[:, 0] = torch.tensor(wanted).view(-1, 1, 1) * THRESHOLD * 128
        return found

    monkeypatch.setattr(steps._raft, "flow", flow)
    clip = moving_square(5)
    with arithmetic(tf32=steps.tf32):
        found = steps.outputs([(clip, number) for number in lengths])
    assert looks == [(4, True, True), (2, False, False)]
    assert found == pytest.approx([THRESHOLD * share for share in (0.5, 0.97, 1.01, 1.2)])


def test_a_score_computed_from_flow_stays_in_float32(weights):
    assert not scorer("dynamic_flow", weights).backbone.tf32
    assert FlowSteps(weights["dynamic_flow"], "cpu", THRESHOLD).tf32


def test_raft_takes_the_names_of_its_authors(weights, tmp_path):
    ours = torch.load(weights["dynamic_degree"], weights_only=True)
    theirs = {}
    for name, value in ours.items():
        for new, old in (
            ("feature_encoder.", "fnet."),
            ("context_encoder.", "cnet."),
            ("motion_encoder.convcorr", "encoder.convc"),
            ("motion_encoder.convflow", "encoder.convf"),
            ("motion_encoder.conv.0", "encoder.conv"),
            ("mask_predictor.convrelu.0", "update_block.mask.0"),
            ("mask_predictor.conv.", "update_block.mask.2."),
            ("recurrent_block.convgru1.convz", "gru.convz1"),
            ("recurrent_block.convgru2.convz", "gru.convz2"),
            ("recurrent_block.convgru1.convr", "gru.convr1"),
            ("recurrent_block.convgru2.convr", "gru.convr2"),
            ("recurrent_block.convgru1.convq", "gru.convq1"),
            ("recurrent_block.convgru2.convq", "gru.convq2"),
        ):
            name = name.replace(new, old)
        for digit in "12":
            name = name.replace(f".convnormrelu{digit}.0.", f".conv{digit}.").replace(
                f".convnormrelu{digit}.1.", f".norm{digit}."
            )
        name = name.replace("net.convnormrelu.0.", "net.conv1.").replace("net.convnormrelu.1.", "net.norm1.")
        for net in ("fnet", "cnet"):
            name = name.replace(f"{net}.conv.", f"{net}.conv2.")
        name = name.replace("convc1.0.", "convc1.").replace("convc2.0.", "convc2.")
        name = name.replace("convf1.0.", "convf1.").replace("convf2.0.", "convf2.")
        theirs[f"module.{name}"] = value
    torch.save(theirs, tmp_path / "raft-things.pth")
    loaded = [
        Raft(path, "cpu").network.state_dict() for path in (tmp_path / "raft-things.pth", weights["dynamic_degree"])
    ]
    assert all(torch.equal(loaded[0][name], value) for name, value in loaded[1].items())


def test_imaging_quality_is_the_mean_over_frames_of_the_network(weights):
    quality = scorer("imaging_quality", weights)
    clip = moving_square(2)
    each = [quality.score(Clip(frame[None], 8.0, "")) for frame in clip.frames_THWC]
    assert quality.score(clip) == pytest.approx(np.mean(each), abs=1e-6)


@pytest.mark.parametrize(("height", "width"), [(140, 200), (60, 400), (320, 512)])
def test_padding_patches_are_left_out_and_change_nothing(weights, height, width):
    quality, clip = scorer("imaging_quality", weights), moving_square(1, height=height, width=width)
    network = MUSIQ(pretrained=False).eval()
    load_weights(network, read_checkpoint(weights["imaging_quality"]), weights["imaging_quality"])
    with torch.no_grad():
        expected = network(clip.pixels("cpu") / 255).item()
    assert quality.score(clip) == pytest.approx(expected, abs=1e-4)


def test_a_frame_larger_than_512_is_resized_to_512(weights, monkeypatch):
    quality = scorer("imaging_quality", weights)
    seen, scores = [], quality.backbone._musiq.scores
    monkeypatch.setattr(quality.backbone._musiq, "scores", lambda x: seen.append(tuple(x.shape[-2:])) or scores(x))
    quality.score(moving_square(1, height=300, width=1030))
    quality.score(moving_square(1, height=300, width=512))
    quality.score(moving_square(1, height=448, width=784))  # 512 / 784 * 784 is 511.99999999999994
    assert seen == [(149, 512), (300, 512), (292, 511)]


@pytest.mark.parametrize(
    "name",
    ["subject_consistency", "motion_smoothness", "dynamic_degree", "dynamic_flow", "static_clip", "imaging_quality"],
)
def test_weights_that_are_not_finite_fail_and_do_not_count_as_a_still_clip(weights, tmp_path, name):
    tensors = torch.load(weights[name], weights_only=True)
    broken = {key: torch.full_like(t, float("nan")) if t.is_floating_point() else t for key, t in tensors.items()}
    torch.save(broken, tmp_path / "broken.pth")
    ((result,),) = score_clips([scorer(name, {name: tmp_path / "broken.pth"})], [moving_square(4)])
    assert isinstance(result, ValueError)


@pytest.mark.parametrize("shape", [(1, 1), (48, 64), (3, 2000), (1024, 2)])
@pytest.mark.parametrize(
    "name",
    ["subject_consistency", "motion_smoothness", "dynamic_degree", "dynamic_flow", "static_clip", "imaging_quality"],
)
def test_smallest_and_narrowest_clips_have_a_score_or_a_reason(weights, name, shape):
    frames = np.random.default_rng(0).integers(0, 256, (3, *shape, 3), dtype=np.uint8)
    ((result,),) = score_clips([scorer(name, weights)], [Clip(frames, 8.0, "")])
    assert np.isfinite(result) if isinstance(result, float) else "x" in str(result)
