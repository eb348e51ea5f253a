"""Which optimiser steps are left out, and when a training gives up."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from videodpo.config import Train
from videodpo.dpo.loss_scale import is_overflow

_KNOWN = 10  # norms before growth is judged: the first steps of a fresh LoRA are far apart
_RECENT = 100


def skip_reason(norm: float, losses: np.ndarray, rows: Sequence[Mapping[str, Any]], train: Train) -> str | None:
    """Why a step must not change the weights, or None.

    Args:
        norm: of the step's gradient. losses: of its pairs. rows: the log so far.
    """
    if not np.isfinite(losses).all():
        return "the loss is not finite"
    if not math.isfinite(norm):
        return "the gradient is not finite"
    recent = [row["grad_norm"] for row in rows[-_RECENT:] if not row["skipped"]]
    if train.skip_above_median is None or len(recent) < _KNOWN:
        return None
    usual = statistics.median(recent)
    # What clipping lets through as it is does no harm, however small the others were: a hinge's are often 0.
    if norm > max(train.skip_above_median * usual, train.max_grad_norm):
        return f"the gradient norm {norm:.3g} is above {train.skip_above_median:g} times the usual {usual:.3g}"
    return None


def should_abort(rows: Sequence[Mapping[str, Any]], train: Train) -> bool:
    """Whether the last rows are more skipped steps in a row than are allowed; those that lower the loss scale are not
    counted."""
    counted = [row for row in rows if not is_overflow(row)]
    last = counted[-train.max_skipped_steps - 1 :]
    return len(last) > train.max_skipped_steps and all(row["skipped"] for row in last)
