"""Loss scale that keeps float16 gradients above underflow, by the rule of torch.amp.GradScaler.

The scale follows from the rows of the log. These are part of every checkpoint, so a resumed training has the same
scale. torch's own scaler skips steps by itself; here a skipped step is logged, counted and agreed on by all ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# GradScaler's defaults. All factors are powers of 2, so unscaling a float32 gradient is exact.
START, GROWTH, BACKOFF, GROWTH_STEPS = 2.0**16, 2.0, 0.5, 2000
LEAST = 1.0


def loss_scale(rows: Sequence[Mapping[str, Any]], dtype: str) -> float | None:
    """Return the scale of the next step, or None if `dtype` does not need one.

    The scale is halved after each overflow, and doubled after 2000 steps without a skipped one.

    Args:
        rows: log so far.
        dtype: type of the matrix products.
    """
    if dtype != "float16":
        return None
    if not rows:
        return START
    scale = float(rows[-1]["loss_scale"])
    if is_overflow(rows[-1]):
        return max(scale * BACKOFF, LEAST)
    recent = rows[-GROWTH_STEPS:]
    has_been_fine = all(row["loss_scale"] == scale and not row["skipped"] for row in recent)
    return scale * GROWTH if has_been_fine and len(recent) == GROWTH_STEPS else scale


def is_overflow(row: Mapping[str, Any]) -> bool:
    """Return True if a step was skipped because its scaled gradient overflowed float16: a lower scale fixes that."""
    scale = row.get("loss_scale")
    is_scaled = scale is not None and scale > LEAST
    return is_scaled and row["skipped"] and row["grad_norm"] is None and row["loss"] is not None
