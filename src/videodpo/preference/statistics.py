"""Intervals, headroom, win rates and motion statistics of paired differences; the prompt is the unit of resampling.

Legend: R resamples, P prompts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CONFIDENCE = 0.95
STILL = 0.1  # a clip with less motion than this share of the base model's mean is nearly still
MOTION_LOSS = 0.1  # share of the mean motion that may be lost without a warning
_CELLS = 1_000_000  # numbers held in memory at once while resampling


def bootstrap_interval(
    deltas: pd.Series, prompt_ids: pd.Series, *, resamples: int, seed: int
) -> tuple[float, float] | None:
    """Percentile interval of the mean difference: low and high end of the 95 %; None for a single prompt.

    Prompts are drawn with replacement, each with all its clips. Clips of one prompt are correlated: drawing them
    independently would make the interval too narrow.

    Args:
        deltas: aligned minus base, one number per clip.
        prompt_ids: prompt of each clip.
        resamples: number of draws.
        seed: seed of numpy's PCG64.
    """
    sums_P, sizes_P = sums_and_sizes(deltas, prompt_ids)
    if len(sums_P) < 2:  # all resamples would be equal, and an interval of zero width would claim certainty
        return None
    return percentiles(_resampled_means(sums_P, sizes_P, resamples, np.random.PCG64(seed)))


def headroom(values: pd.Series, prompt_ids: pd.Series) -> tuple[int, pd.Series]:
    """Best of a prompt's N samples minus their mean: the gain from picking the best of N.

    Args:
        values: a score of each sample; NaN where it failed.
        prompt_ids: prompt of each sample.

    Returns:
        N, the largest number of samples of a prompt; and the headroom of each prompt whose N samples all have the
        score, by prompt id. It is 0 or above. Empty if N is 1: a single sample leaves no choice.
    """
    keys = prompt_ids.to_numpy()
    grouped = values.groupby(keys, sort=False)
    num_samples = int(grouped.size().max())
    # Average the differences: for equal samples this is exactly 0, but the best minus the rounded mean may not be.
    gaps = (grouped.transform("max") - values).groupby(keys, sort=False).mean()
    complete = grouped.count() == num_samples
    return num_samples, gaps[complete] if num_samples > 1 else gaps.iloc[:0]


def gain_interval(
    deltas: pd.Series, prompt_ids: pd.Series, headrooms: pd.Series, *, paired: bool, resamples: int, seed: int
) -> tuple[float, float] | None:
    """Percentile interval of the gain, mean(deltas) / mean(headrooms): low and high end of the 95 %.

    Args:
        deltas: aligned minus base, one number per clip.
        prompt_ids: prompt of each clip.
        headrooms: result of `headroom`, by prompt id.
        paired: True if headrooms and deltas are of the same prompts: each resample then draws both together. Otherwise
            the two sets of prompts are drawn independently.
        resamples: number of draws.
        seed: seed of numpy's PCG64.

    Returns:
        The interval; None if either side has fewer than two prompts, or if an end is not finite because too many
        resamples have a headroom of 0.
    """
    change = deltas.groupby(prompt_ids.to_numpy(), sort=False).agg(["sum", "size"])
    room = pd.DataFrame({"sum": headrooms, "size": 1.0})
    if min(len(change), len(room)) < 2:
        return None
    if paired:  # a prompt without a delta or without a headroom counts 0 times on that side
        prompts = change.index.union(room.index, sort=False)
        change, room = (table.reindex(prompts, fill_value=0.0) for table in (change, room))
    bits = np.random.PCG64(seed)
    change_R, room_R = (
        _resampled_means(table["sum"].to_numpy(float), table["size"].to_numpy(float), resamples, stream)
        for table, stream in ((change, bits), (room, np.random.PCG64(seed) if paired else bits.jumped()))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        gains_R = change_R / room_R
        # A ratio over 0 may be anything: it widens the interval on both sides.
        undefined_R = ~np.isfinite(gains_R)
        low, _ = percentiles(np.where(undefined_R, -np.inf, gains_R))
        _, high = percentiles(np.where(undefined_R, np.inf, gains_R))
    return (low, high) if np.isfinite([low, high]).all() else None


def _resampled_means(
    sums_P: NDArray[Any], sizes_P: NDArray[Any], resamples: int, bits: np.random.PCG64
) -> NDArray[np.float64]:
    """Means over P prompts drawn with replacement, each with all its clips, [R]; NaN where none has a clip."""
    rng = np.random.Generator(bits)
    means_R = np.empty(resamples)
    step = max(1, _CELLS // len(sums_P))
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        draw_RP = rng.integers(0, len(sums_P), size=(stop - start, len(sums_P)))
        with np.errstate(invalid="ignore"):
            means_R[start:stop] = sums_P[draw_RP].sum(axis=1) / sizes_P[draw_RP].sum(axis=1)
    return means_R


def sums_and_sizes(values: pd.Series, prompt_ids: pd.Series) -> tuple[NDArray[Any], NDArray[Any]]:
    """Sum of each prompt's values, and their number, [P] each, in the order of the prompts' first values."""
    grouped = values.groupby(prompt_ids.to_numpy(), sort=False)
    return grouped.sum().to_numpy(float), grouped.size().to_numpy(float)


def percentiles(values_R: NDArray[np.float64]) -> tuple[float, float]:
    """Low and high end of the middle 95 %."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(values_R, [tail, 100 - tail])
    return float(low), float(high)


def win_rate(delta: pd.Series) -> float:
    """Share of clips on which the aligned model is better; ties count half."""
    return float(((delta > 0) + 0.5 * (delta == 0)).mean())


def motion_panel(dimension: str, base: pd.Series, aligned: pd.Series) -> dict[str, float | str | bool | None]:
    """Check that alignment did not raise its score by reducing motion, as preference training on video is known to do.

    Args:
        dimension: name of the motion dimension.
        base: its score of each base clip.
        aligned: its score of each aligned clip.

    Returns:
        Means, relative change (None if the base does not move), the share of nearly still clips in both arms, and
        `warning`, true if the mean fell by more than 10 %.
    """
    before, after = float(base.mean()), float(aligned.mean())
    return {
        "dimension": dimension,
        "base": before,
        "aligned": after,
        "relative_change": after / before - 1 if before > 0 else None,
        "base_still": float((base < STILL * before).mean()),
        "aligned_still": float((aligned < STILL * before).mean()),
        "warning": after < before - MOTION_LOSS * abs(before),
    }
