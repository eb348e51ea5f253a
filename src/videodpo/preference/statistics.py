"""Intervals, win rates and motion statistics of paired differences; the prompt is the unit of resampling.

Legend: R resamples, P prompts.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

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
        seed: of numpy's PCG64.
    """
    grouped = deltas.groupby(prompt_ids.to_numpy(), sort=False)
    sums_P, sizes_P = grouped.sum().to_numpy(float), grouped.size().to_numpy(float)
    if len(sums_P) < 2:  # every resample would be the same prompt: zero width would claim certainty
        return None
    rng = np.random.Generator(np.random.PCG64(seed))
    means_R = np.empty(resamples)
    step = max(1, _CELLS // len(sums_P))
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        draw_RP = rng.integers(0, len(sums_P), size=(stop - start, len(sums_P)))
        means_R[start:stop] = sums_P[draw_RP].sum(axis=1) / sizes_P[draw_RP].sum(axis=1)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(means_R, [tail, 100 - tail])
    return float(low), float(high)


def win_rate(delta: pd.Series) -> float:
    """Share of clips on which the aligned model is better; ties count half."""
    return float(((delta > 0) + 0.5 * (delta == 0)).mean())


def motion_panel(dimension: str, base: pd.Series, aligned: pd.Series) -> dict[str, float | str | bool | None]:
    """Check that alignment did not raise its score by reducing motion, as preference training on video is known to do.

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
