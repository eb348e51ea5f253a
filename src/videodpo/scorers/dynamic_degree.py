"""Dynamic degree, as VBench defines it: 1 if RAFT sees enough motion, else 0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from videodpo.scorers.base import Clip
from videodpo.scorers.shared.flow_steps import FlowScorer, sampled_frames, undecided

THRESHOLD = 6 / 256  # of the shorter side, per step


class DynamicDegree(FlowScorer):
    """1 if enough steps exceed 6 / 256 of the shorter side, else 0.

    Enough is round(4 n / 16) for n sampled frames, half to even. With 2 frames this is 0, so the score is always 1.
    With 1 frame there is no step, so the score is 0. Both are as in VBench. Further steps are not computed once they
    could not change the score.
    """

    version = "3"
    threshold = THRESHOLD

    def wanted(self, clip: Clip, outputs: Mapping[int, float]) -> Iterable[int]:
        return undecided(range(self.backbone.num_parts(clip)), outputs, THRESHOLD, self._num_needed(clip))

    def value(self, clip: Clip, outputs: Mapping[int, float]) -> float:
        num_above = sum(step > THRESHOLD for step in outputs.values())
        return float(self.backbone.num_parts(clip) > 0 and num_above >= self._num_needed(clip))

    @staticmethod
    def _num_needed(clip: Clip) -> int:
        return round(4 * len(sampled_frames(clip)) / 16)
