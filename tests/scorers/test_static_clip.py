"""VBench's static filter, for given lengths of the flow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_large

from videodpo.scorers.base import Clip
from videodpo.scorers.static_clip import StaticClip

UNIT = 1 / 256  # a pixel of flow in a frame with a shorter side of 256


@pytest.fixture(scope="module")
def static(tmp_path_factory) -> StaticClip:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("raft") / "raft.pth"
    torch.save(raft_large(weights=None).state_dict(), path)
    return StaticClip(StaticClip.Options(weights=str(path)), "cpu")


@pytest.fixture
def verdict(static, monkeypatch):
    """Function: the score for given lengths in pixels, and the parts that were computed."""

    def score(neighbours: list[float], ends: tuple[float, float] = (0.0, 0.0)) -> tuple[float, list[int]]:
        lengths, looked = [*neighbours, *ends], []

        def outputs(parts):
            looked.extend(number for _, number in parts)
            return [lengths[number] * UNIT for _, number in parts]

        monkeypatch.setattr(static.backbone, "outputs", outputs)
        return static.score(Clip(np.zeros((len(neighbours) + 1, 256, 256, 3), np.uint8), 8.0, "")), looked

    return score


def test_pairs_are_all_neighbours_then_first_and_last_both_ways(static):
    clip = Clip(np.zeros((4, 128, 128, 3), np.uint8), 24.0, "")
    assert static.backbone.pairs(clip) == [(0, 1), (1, 2), (2, 3), (0, 3), (3, 0)]


@pytest.mark.parametrize(
    ("num_moving", "num_frames", "value"),
    [(2, 16, 1.0), (3, 16, 0.0), (0, 5, 1.0), (1, 5, 1.0), (2, 5, 0.0), (2, 20, 1.0), (2, 21, 1.0), (3, 21, 1.0)],
)
def test_an_eighth_of_the_frames_may_move_rounded_half_to_even(verdict, num_moving, num_frames, value):
    """Round(2 n / 16) of n frames: 2 of 16, 1 of 5, 2 of 20 (2.5), 3 of 21."""
    assert verdict([3.01] * num_moving + [2.99] * (num_frames - 1 - num_moving))[0] == value


@pytest.mark.parametrize(("ends", "value"), [((11.9, 11.9), 1.0), ((12.1, 0.0), 0.0), ((0.0, 12.1), 0.0)])
def test_first_and_last_frame_may_differ_by_4_times_the_threshold_of_16_frames(verdict, ends, value):
    assert verdict([0.0] * 15, ends)[0] == value


@pytest.mark.parametrize(("ends", "value"), [((0.0, 0.0), 1.0), ((1e-3, 0.0), 0.0)])
def test_up_to_4_frames_no_flow_at_all_is_allowed(verdict, ends, value):
    assert verdict([0.0] * 3, ends)[0] == value


def test_one_frame_is_static_if_raft_sees_no_flow_in_it(verdict):
    assert [verdict([], ends)[0] for ends in ((0.0, 0.0), (0.1, 0.0))] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("neighbours", "ends", "looked"),
    [
        ([0.0] * 15, (12.1, 0.0), [15, 16]),
        ([3.1] * 15, (0.0, 0.0), [15, 16, 0, 1, 2]),
        ([0.0] * 15, (0.0, 0.0), [15, 16, *range(13)]),
        ([0.0, 0.0, 3.1] * 5, (0.0, 0.0), [15, 16, *range(9)]),
    ],
)
def test_no_more_pairs_are_computed_than_needed(verdict, neighbours, ends, looked):
    assert sorted(verdict(neighbours, ends)[1]) == sorted(looked)
