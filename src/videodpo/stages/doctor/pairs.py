"""Checks of the pairs table: valid weights, weight spread over enough pairs, and enough pairs for the schedule."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from videodpo.config import Schedule
from videodpo.dpo.findings import Finding, Status, grade

# Smallest accepted share of effective pairs. At a hundredth, the gradient comes from a hundredth of the pairs alone.
EFFECTIVE_SHARE = 0.01
# Most visits per pair before the model memorises it. The paper's run visits each of its 10,000 pairs 2.4 times.
MOST_EPOCHS = 50.0
# Largest factor between the reference's mean errors on winners and on losers. The demo's own pairs have 1.02 and 1.04.
FAR = 1.25


def check_weights(pairs: pd.DataFrame) -> list[Finding]:
    """Check that the weights are finite and positive, and that a few pairs do not dominate the training."""
    weights = pairs["weight"].to_numpy(float)
    good = np.isfinite(weights) & (weights > 0)
    status: Status = "fine" if len(weights) and good.all() else "alarm"
    measured = f"{int((~good).sum())} of {len(weights)} weights are not finite and above 0"
    advice = "Re-run the stage pairs; weights follow from pairs.reweight and omniscore.parquet."
    findings = [Finding("weights", status, measured, "none", advice, float((~good).sum()))]
    if status == "alarm":
        return findings
    effective = float(weights.sum() ** 2 / np.square(weights).sum())
    status = "warning" if effective < EFFECTIVE_SHARE * len(weights) else "fine"
    measured = f"weights from {weights.min():.3g} to {weights.max():.3g}: {effective:.0f} effective pairs"
    expected = f"at least {EFFECTIVE_SHARE:.0%} of {len(weights)} pairs"
    advice = "A few pairs dominate the training: lower pairs.reweight.exponent."
    return [*findings, Finding("effective_pairs", status, measured, expected, advice, effective)]


def check_policy(reference: pd.DataFrame | None) -> Finding:
    """Compare the reference's errors on winners and losers: clips of the model itself have similar ones.

    Args:
        reference: rows of `schemas.REFERENCE`; None if the training computes them itself.
    """
    expected = f"{1 / FAR:.2g} to {FAR:g}"
    if reference is None:
        return Finding("off_policy", "fine", "not compared, there is no table of reference errors", expected)
    errors = reference[["ref_error_winner", "ref_error_loser"]].dropna()
    ratio = float(errors["ref_error_winner"].sum() / errors["ref_error_loser"].sum()) if len(errors) else math.nan
    status: Status = "fine" if 1 / FAR <= ratio <= FAR else "warning"
    measured = f"the reference's error on winners is {ratio:.3g} times that on losers, over {len(errors)} visits"
    advice = (
        "One side of the pairs is far from what this model samples, so the loss can fall by telling the two sources "
        "apart: let the model sample the losers (docs/own-pairs.md), or lower the learning rate."
    )
    return Finding("off_policy", status, measured, expected, advice, ratio)


def check_epochs(num_pairs: int, schedule: Schedule) -> Finding:
    """Check how often each training pair is visited."""
    epochs = schedule.num_steps * schedule.global_batch_size / num_pairs
    measured = (
        f"{schedule.num_steps} steps of {schedule.global_batch_size} visit {num_pairs} pairs {epochs:.2g} times each"
    )
    advice = "The model will memorise the pairs: collect more, or lower schedule.num_steps."
    return Finding("epochs", grade(epochs, MOST_EPOCHS), measured, f"at most {MOST_EPOCHS:g}", advice, epochs)
