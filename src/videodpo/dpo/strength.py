"""Distance of the policy from its reference at the end of a training log. Must not import torch."""

from __future__ import annotations

import pandas as pd

TENTH = 0.1  # share of the log that counts as its start or end, because a single step sees only a few pairs
_SIDES = ("winner", "loser")


def tenth(rows: pd.DataFrame | pd.Series) -> int:
    """Number of rows in a tenth of the log, at least 1."""
    return max(1, round(len(rows) * TENTH))


def strength(log: pd.DataFrame) -> dict[str, float] | None:
    """Return the ratio of the policy's error to the reference's on the same noise, minus 1.

    Errors are means over the pairs of the last tenth of the steps, without the pairs' weights. Skipped steps are left
    out.

    Args:
        log: rows in the order of the steps, with the error columns of TRAIN_LOG.

    Returns:
        `winner`, `loser`, `mean` (winners and losers together) and `steps`, the number of steps averaged; None if all
        steps were skipped.
    """
    done = log[~log["skipped"].astype(bool)] if "skipped" in log else log
    columns = [f"{error}_{side}" for error in ("error", "ref_error") for side in _SIDES]
    done = done.dropna(subset=columns)
    if done.empty:
        return None
    means = done.tail(tenth(done))[columns].mean()
    policy, reference = ({side: float(means[f"{error}_{side}"]) for side in _SIDES} for error in ("error", "ref_error"))
    relative = {side: policy[side] / reference[side] - 1 for side in _SIDES}
    return relative | {
        "mean": sum(policy.values()) / sum(reference.values()) - 1,
        "steps": tenth(done),
    }
