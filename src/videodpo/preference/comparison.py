"""Comparison of two arms over several seeds: bootstrap interval and p-value, Holm's correction, resolvable difference.

Legend: R resamples, S seeds, P prompts of a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from videodpo.preference.statistics import percentiles, sums_and_sizes

LEVEL = 0.05  # family-wise error rate: probability of any false finding
POWER = 0.8
Verdict = Literal["reproduced", "contradicted", "not resolved"]


class Difference(NamedTuple):
    """Mean paired difference over seeds.

    Attributes:
        mean: each seed counts the same.
        low: low end of the percentile interval of 95 %.
        high: high end of the same interval.
        p: two-sided p-value.
        error: standard error, from the bootstrap.
        num_seeds: number of seeds.
        num_prompts: number of prompts of all seeds together.
    """

    mean: float
    low: float
    high: float
    p: float
    error: float
    num_seeds: int
    num_prompts: int


def bootstrap_difference(
    seeds: Sequence[tuple[pd.Series, pd.Series]], *, resamples: int, seed: int
) -> Difference | None:
    """Mean of paired differences with its interval, from a two-level bootstrap: seeds, then prompts within them.

    A resample draws S seeds with replacement, and for each of them P of its prompts, each with all its clips. Seeds are
    resampled because a claim is about the method, not about a few trainings. The variance within seeds is counted
    1 + (S - 1) / S times, and the variance between seeds (S - 1) / S times. The interval is therefore too wide, unless
    the standard deviation between seeds exceeds sqrt(S - 1) times the standard error within one. With one seed, only
    prompts are drawn.

    Args:
        seeds: for each seed, one difference per clip, and the prompt of each clip.
        resamples: number of draws, R.
        seed: seed of numpy's PCG64.

    Returns:
        None if a seed has fewer than two prompts.
    """
    totals = [sums_and_sizes(*one) for one in seeds]
    if min((len(sums_P) for sums_P, _ in totals), default=0) < 2:
        return None
    rng = np.random.Generator(np.random.PCG64(seed))
    means_R = np.zeros(resamples)
    for _ in seeds:
        drawn_R = rng.integers(0, len(seeds), size=resamples)
        for number, (sums_P, sizes_P) in enumerate(totals):
            rows = np.flatnonzero(drawn_R == number)
            draw_RP = rng.integers(0, len(sums_P), size=(len(rows), len(sums_P)))
            means_R[rows] += sums_P[draw_RP].sum(axis=1) / sizes_P[draw_RP].sum(axis=1) / len(seeds)
    low, high = percentiles(means_R)
    return Difference(
        mean=float(np.mean([sums_P.sum() / sizes_P.sum() for sums_P, sizes_P in totals])),
        low=low,
        high=high,
        p=_two_sided(means_R),
        error=float(means_R.std()),
        num_seeds=len(seeds),
        num_prompts=sum(len(sums_P) for sums_P, _ in totals),
    )


def _two_sided(means_R: NDArray[np.float64]) -> float:
    """Twice the smaller share of resamples on one side of zero; never 0, as R draws cannot show a smaller p."""
    below, above = int((means_R <= 0).sum()), int((means_R >= 0).sum())
    return min(1.0, 2 * (1 + min(below, above)) / (1 + len(means_R)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values of several tests so that the chance of any false finding stays below the level (Holm 1979).

    In ascending order, the i-th of m p-values is multiplied by m - i + 1, and raised to the previous result if lower.

    Returns:
        In the order of `p_values`, at most 1.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def resolvable_difference(error: float, num_tests: int) -> float:
    """Smallest true difference that an experiment of this size would resolve in 80 % of all repetitions.

    The level is the strictest that Holm's correction can require: 5 % divided by the number of tests, two-sided.

    Args:
        error: standard error of the difference.
    """
    normal = NormalDist()
    return (normal.inv_cdf(1 - LEVEL / (2 * num_tests)) + normal.inv_cdf(POWER)) * error


def verdict(mean: float, corrected_p: float) -> Verdict:
    """Reproduced or contradicted if the corrected p is below 5 %, by the sign of the difference."""
    if corrected_p >= LEVEL:
        return "not resolved"
    return "reproduced" if mean > 0 else "contradicted"
