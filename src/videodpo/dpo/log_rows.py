"""One row of the training log, from the statistics of a step's pairs."""

from __future__ import annotations

import math
import resource
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from videodpo.dpo.visits import Visit
from videodpo.storage.schemas import DRIFT_BUCKETS

# Statistics of each visit, in the order of the columns of a step's table.
STATISTICS = (
    "loss",
    "margin",
    "error_winner",
    "error_loser",
    "ref_error_winner",
    "ref_error_loser",
    "safeguard_share",  # 1 where the safeguard acts, 0 where it does not, NaN without one
    "weight",
)


def log_row(table: np.ndarray, visits: Sequence[Visit]) -> dict[str, Any]:
    """Return means over a step's pairs, and the drift from the reference in each quarter of the noise levels.

    Args:
        table: statistics of each visit, [visits, len(STATISTICS)].
        visits: the visits, in the order of the rows.
    """
    columns = dict(zip(STATISTICS, table.T, strict=True))
    row: dict[str, Any] = {name: finite(values.mean()) for name, values in columns.items() if name != "weight"}
    margins = columns["margin"][np.isfinite(columns["margin"])]
    row |= {
        "weight_mean": finite(columns["weight"].mean()),
        "accuracy": finite((margins > 0).mean()) if len(margins) else None,
    }
    buckets = np.array([min(int(visit.noise_level * DRIFT_BUCKETS), DRIFT_BUCKETS - 1) for visit in visits])
    for side in ("winner", "loser"):
        drift = columns[f"error_{side}"] - columns[f"ref_error_{side}"]
        for bucket in range(DRIFT_BUCKETS):
            inside = drift[buckets == bucket]
            row[f"{side}_drift_{bucket}"] = finite(inside.mean()) if len(inside) else None
    return row


def finite(value: float) -> float | None:
    """Return the number, or None if it is not finite, as the loss of a skipped step can be."""
    return float(value) if math.isfinite(value) else None


def peak_memory_mb() -> float:
    """Return the peak memory of this process in MiB: on the GPU if there is one, else on the host."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
