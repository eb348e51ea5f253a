"""Rules for skipping an optimizer step and for aborting a training."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from videodpo.config import Train
from videodpo.dpo.loss_scale import is_overflow

_KNOWN = 10  # norms needed before growth is judged: the first steps of a fresh LoRA vary widely
_RECENT = 100


def skip_reason(norm: float, losses: np.ndarray, rows: Sequence[Mapping[str, Any]], train: Train) -> str | None:
    """Return why a step must be skipped, or None.

    Args:
        norm: gradient norm of the step.
        losses: losses of the step's pairs.
        rows: log so far.
    """
    if not np.isfinite(losses).all():
        return "the loss is not finite"
    if not math.isfinite(norm):
        return "the gradient is not finite"
    recent = [row["grad_norm"] for row in rows[-_RECENT:] if not row["skipped"]]
    if train.skip_above_median is None or len(recent) < _KNOWN:
        return None
    usual = statistics.median(recent)
    # Never skip a step whose norm is below max_grad_norm: under a hinge loss the median is often 0.
    if norm > max(train.skip_above_median * usual, train.max_grad_norm):
        return f"the gradient norm {norm:.3g} is above {train.skip_above_median:g} times the usual {usual:.3g}"
    return None


def should_abort(rows: Sequence[Mapping[str, Any]], train: Train) -> bool:
    """Return True if more steps in a row were skipped than allowed. Steps that lower the loss scale do not count."""
    counted = [row for row in rows if not is_overflow(row)]
    last = counted[-train.max_skipped_steps - 1 :]
    return len(last) > train.max_skipped_steps and all(row["skipped"] for row in last)
