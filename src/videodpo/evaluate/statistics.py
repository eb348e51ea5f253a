"""Paired differences to means, intervals and win rates, with the prompt as the unit that is drawn.

Legend: R resamples, P prompts, D dimensions.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

CONFIDENCE = 0.95
STILL = 0.1  # a clip with less than this share of the base model's mean motion is nearly still
MOTION_LOSS = 0.1  # share of the mean motion that may be lost without a warning
_CELLS = 1_000_000  # numbers held at once while resampling


def bootstrap_intervals(
    deltas: pd.DataFrame, prompt_ids: pd.Series, *, resamples: int, seed: int
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of the mean difference.

    Prompts are drawn with replacement and bring all their clips along: clips of one prompt are alike, and drawn
    one by one they would make the interval too narrow.

    Args:
        deltas: one row a clip, one column a dimension: aligned minus base. prompt_ids: the prompt of each row.
        resamples: number of draws. seed: of numpy's PCG64.

    Returns:
        Dimension: low and high end of the 95 % interval; one draw of prompts serves all dimensions.
    """
    grouped = deltas.groupby(prompt_ids.to_numpy(), sort=False)
    sums_PD, sizes_P = grouped.sum().to_numpy(float), grouped.size().to_numpy(float)
    num_prompts, num_dimensions = sums_PD.shape
    rng = np.random.Generator(np.random.PCG64(seed))
    means_RD = np.empty((resamples, num_dimensions))
    step = max(1, _CELLS // (num_prompts * num_dimensions))
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        draw_RP = rng.integers(0, num_prompts, size=(stop - start, num_prompts))
        means_RD[start:stop] = sums_PD[draw_RP].sum(axis=1) / sizes_P[draw_RP].sum(axis=1)[:, None]
    tail = 100 * (1 - CONFIDENCE) / 2
    low_D, high_D = np.percentile(means_RD, [tail, 100 - tail], axis=0)
    return {str(name): (float(low_D[k]), float(high_D[k])) for k, name in enumerate(deltas.columns)}


def win_rate(delta: pd.Series) -> float:
    """Share of clips on which the aligned model is better; ties count half."""
    return float(((delta > 0) + 0.5 * (delta == 0)).mean())


def motion_panel(dimension: str, base: pd.Series, aligned: pd.Series) -> dict[str, float | str | bool | None]:
    """Whether alignment bought its score with stillness: preference training on video is known to.

    Returns:
        Means, relative change (None where the base does not move), the share of nearly still clips in both arms,
        and `warning`, true where the mean fell by more than 10 %.
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
