"""HPSv3's own uncertainty: the standard deviation of the predicted preference. A figure to report, not a reward."""

from __future__ import annotations

import math
from collections.abc import Mapping

from videodpo.scorers.base import Clip
from videodpo.scorers.shared.hpsv3 import Hpsv3Scorer


class Hpsv3Sigma(Hpsv3Scorer):
    """Mean over the frames that count in `hpsv3` of the predicted preference's standard deviation."""

    version = "1"

    def value(self, clip: Clip, outputs: Mapping[int, tuple[float, float]]) -> float:
        sigmas = [math.exp(log_sigma) for _, log_sigma in self.counted(outputs)]
        return sum(sigmas) / len(sigmas)
