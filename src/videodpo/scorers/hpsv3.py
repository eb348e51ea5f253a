"""HPSv3: predicted human preference for the frames as images of the prompt (arXiv 2508.03789)."""

from __future__ import annotations

from collections.abc import Mapping

from videodpo.scorers.base import Clip
from videodpo.scorers.shared.hpsv3 import Hpsv3Scorer


class Hpsv3(Hpsv3Scorer):
    """Mean of the predicted preference over the frames that count: about 0 to 11 for the images of its authors."""

    version = "1"

    def value(self, clip: Clip, outputs: Mapping[int, tuple[float, float]]) -> float:
        means = [mean for mean, _ in self.counted(outputs)]
        return sum(means) / len(means)
