"""Filters that reject candidate pairs, each with a reason."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from videodpo.config import Filters, Pairs
from videodpo.preference.candidates import Candidates, Videos

KEPT = -1


def rejections(videos: Videos, candidates: Candidates, filters: Filters) -> tuple[NDArray[np.int64], list[str]]:
    """First reason against each candidate, as an index into the list of reasons; `KEPT` for those that pass.

    The order is: equal scores, no_regression, min_motion, min_gap, drop_percentile. The percentile is taken over the
    candidates that pass all other filters.
    """
    winners, losers = candidates.winners, candidates.losers
    omniscores = videos.column("omniscore")
    gaps = omniscores[winners] - omniscores[losers]
    found = np.full(len(gaps), KEPT)
    reasons: list[str] = []

    def reject(which: NDArray[np.bool_], reason: str) -> None:
        found[which & (found == KEPT)] = len(reasons)
        reasons.append(reason)

    reject(gaps <= 0, "equal scores: no preference")
    for dimension, tolerance in sorted(filters.no_regression.items()):
        scaled = videos.column(f"norm_{dimension}")
        reason = f"no_regression: winner is lower in {dimension} by more than {tolerance:g}"
        reject(scaled[winners] < scaled[losers] - tolerance, reason)
    if filters.min_motion is not None:
        still = videos.column(f"raw_{filters.motion_dimension}")[winners] < filters.min_motion
        reject(still, f"min_motion: winner's {filters.motion_dimension} is below {filters.min_motion:g}")
    reject(gaps < filters.min_gap, f"min_gap: below {filters.min_gap:g}")
    if filters.drop_percentile and (found == KEPT).any():
        lowest = np.percentile(gaps[found == KEPT], filters.drop_percentile)
        reject(gaps < lowest, f"drop_percentile: gap among the lowest {filters.drop_percentile:g} %")
    return found, reasons


def columns_for(settings: Pairs) -> list[str]:
    """Columns of the omniscore table that the choice of pairs needs in addition to the OmniScore."""
    filters = settings.filters
    sample = [] if settings.first_samples is None else ["sample"]
    motion = [] if filters.motion_dimension is None else [f"raw_{filters.motion_dimension}"]
    return [*sample, *(f"norm_{dimension}" for dimension in sorted(filters.no_regression)), *motion]
