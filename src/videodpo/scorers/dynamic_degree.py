"""Dynamic degree, as VBench defines it: whether RAFT sees enough motion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from videodpo.scorers.base import Clip
from videodpo.scorers.shared.flow_steps import FlowScorer, sampled_frames

THRESHOLD = 6 / 256  # of the shorter side, a step


class DynamicDegree(FlowScorer):
    """1 if enough steps exceed 6 / 256 of the shorter side, else 0.

    Enough is round(4 n / 16) of n sampled frames, half to even: with 2 frames it is 0, and the answer always 1; with
    one frame there is no step, and the answer 0, as in VBench. Steps are looked at only until the answer is certain.
    """

    version = "3"
    threshold = THRESHOLD

    def wanted(self, clip: Clip, answers: Mapping[int, float]) -> Iterable[int]:
        unknown = [k for k in range(self.backbone.num_parts(clip)) if k not in answers]
        missing = self._num_needed(clip) - _num_above(answers.values())
        # Certain after so many more at the earliest: all of them above, or so many below that the rest is too few.
        certain = min(missing, len(unknown) - missing + 1)
        return unknown[: max(0, certain)]

    def value(self, clip: Clip, answers: Mapping[int, float]) -> float:
        return float(self.backbone.num_parts(clip) > 0 and _num_above(answers.values()) >= self._num_needed(clip))

    @staticmethod
    def _num_needed(clip: Clip) -> int:
        return round(4 * len(sampled_frames(clip)) / 16)


def _num_above(steps: Iterable[float]) -> int:
    return sum(step > THRESHOLD for step in steps)
