"""Which candidate pairs are left out, and why."""

from __future__ import annotations

import numpy as np
import pandas as pd

from videodpo.config import Filters


def rejection_reasons(candidates: pd.DataFrame, filters: Filters) -> pd.Series:
    """The first reason against each candidate, None for those that stay.

    Equal scores come first, then no_regression, min_motion, min_gap, and last drop_percentile, which
    counts among what the others left.

    Args:
        candidates: columns gap, and `winner_<column>` / `loser_<column>` of the omniscore table's columns.
    """
    reasons = pd.Series([None] * len(candidates), index=candidates.index, dtype=object)

    def reject(which: pd.Series, reason: str) -> None:
        reasons[which & reasons.isna()] = reason

    reject(candidates["gap"] <= 0, "equal scores: no preference")
    for dimension, tolerance in sorted(filters.no_regression.items()):
        worse = candidates[f"winner_norm_{dimension}"] < candidates[f"loser_norm_{dimension}"] - tolerance
        reject(worse, f"no_regression: winner is lower in {dimension} by more than {tolerance:g}")
    if filters.min_motion is not None:
        still = candidates[f"winner_raw_{filters.motion_dimension}"] < filters.min_motion
        reject(still, f"min_motion: winner's {filters.motion_dimension} is below {filters.min_motion:g}")
    reject(candidates["gap"] < filters.min_gap, f"min_gap: below {filters.min_gap:g}")
    left = candidates.loc[reasons.isna(), "gap"].to_numpy()
    if filters.drop_percentile and len(left):
        threshold = float(np.percentile(left, filters.drop_percentile))
        reject(candidates["gap"] < threshold, f"drop_percentile: gap among the lowest {filters.drop_percentile:g} %")
    return reasons
