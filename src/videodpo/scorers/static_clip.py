"""VBench's static filter, which chooses the clips for its temporal flickering: 1 if a clip is static, else 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.file_weights import file_of
from videodpo.scorers.shared.flow_steps import FlowPairs, RaftScorer, undecided

THRESHOLD = 3 / 256  # of the shorter side, per frame


class StaticPairs(FlowPairs):
    """Part k is the mean of the largest 2 % of flow lengths from frame k to k + 1.

    Two more parts follow: from the first to the last frame, and back. dynamic_degree's parts are others: 5 % of the
    lengths, between frames at 8 per second.
    """

    top_share = 0.02

    def pairs(self, clip: Clip) -> Sequence[tuple[int, int]]:
        last = len(clip.frames_THWC) - 1
        return [*pairwise(range(last + 1)), (0, last), (last, 0)]


class StaticClip(RaftScorer):
    """1 if the clip is static, else 0.

    Of n frames, at most c = round(2 n / 16), half to even, may move by more than 3 / 256 of the shorter side to the
    next. Between the first and the last frame, in both directions, 2 c times as much is allowed. Up to 4 frames, c is
    0, so any flow at all between them counts as motion. Further pairs are not computed once they could not change the
    score. Weights: `raft-things.pth`.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        self.backbone = StaticPairs.shared(file_of(options), choose_device(device))

    def wanted(self, clip: Clip, outputs: Mapping[int, float]) -> Iterable[int]:
        neighbours, ends = self._parts(clip)
        if unknown := [k for k in ends if k not in outputs]:
            return unknown
        return [] if self._drifts(clip, outputs) else undecided(neighbours, outputs, THRESHOLD, _allowed(clip) + 1)

    def value(self, clip: Clip, outputs: Mapping[int, float]) -> float:
        neighbours, _ = self._parts(clip)
        num_moving = sum(outputs[k] > THRESHOLD for k in neighbours if k in outputs)
        return float(num_moving <= _allowed(clip) and not self._drifts(clip, outputs))

    def _drifts(self, clip: Clip, outputs: Mapping[int, float]) -> bool:
        """True if the first and the last frame differ by too much."""
        _, ends = self._parts(clip)
        return any(outputs[k] > 2 * _allowed(clip) * THRESHOLD for k in ends)

    def _parts(self, clip: Clip) -> tuple[range, range]:
        """Return the parts of neighbours, and those of the first and the last frame."""
        num_parts = self.backbone.num_parts(clip)
        return range(num_parts - 2), range(num_parts - 2, num_parts)


def _allowed(clip: Clip) -> int:
    """Return how many neighbours may move."""
    return round(2 * len(clip.frames_THWC) / 16)
