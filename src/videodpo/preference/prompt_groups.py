"""Standardise scores within the clips of a prompt, so that rewards of different spread can be weighted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PromptGroups:
    """The prompt of each video, and the statistics of each score over all videos of a prompt."""

    codes: NDArray[np.int64]
    """Number of each video's prompt, [videos]. A part of the videos can have the statistics of all."""
    means: dict[str, NDArray[np.float64]]
    """By score: mean over the videos of each prompt, [prompts]."""
    deviations: dict[str, NDArray[np.float64]]
    """By score: population standard deviation over the videos of each prompt, [prompts]."""

    def standardise(self, name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (value - mean) / standard deviation; 0 where all videos of the prompt have the same value."""
        centred = values - self.means[name][self.codes]
        deviation = self.deviations[name][self.codes]
        return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)


def measure_groups(scores: Iterable[tuple[str, NDArray[np.float64]]], codes: NDArray[np.int64]) -> PromptGroups:
    """Compute the statistics of the scores.

    Args:
        scores: name and values of each score, [videos].
        codes: number of each video's prompt, [videos].
    """
    counts = np.bincount(codes)
    means, deviations = {}, {}
    for name, values in scores:
        means[name] = np.bincount(codes, weights=values, minlength=len(counts)) / np.maximum(counts, 1)
        squares = np.square(values - means[name][codes])
        deviations[name] = np.sqrt(np.bincount(codes, weights=squares, minlength=len(counts)) / np.maximum(counts, 1))
        # The mean of equal values can differ from them in the last bit, and the deviation is then not exactly 0.
        lowest, highest = np.full(len(counts), np.inf), np.full(len(counts), -np.inf)
        np.minimum.at(lowest, codes, values)
        np.maximum.at(highest, codes, values)
        deviations[name][lowest == highest] = 0.0
    return PromptGroups(codes, means, deviations)
