"""Check of beta against the spread of the reference errors."""

from __future__ import annotations

import math

import pandas as pd

from videodpo.config import Train
from videodpo.dpo.findings import Finding, Status
from videodpo.dpo.objectives import auto_beta

# Betas in use range from 50 to 5000. A change of the learning rate can compensate for a factor of 10.
MOST_OFF = 10.0
FALLBACK = 1000.0


def suggested_beta(train: Train, reference: pd.DataFrame) -> float:
    """Beta that `beta: auto` would choose; infinite if the reference errors have no spread."""
    errors = reference[["ref_error_winner", "ref_error_loser"]].to_numpy()
    try:
        return auto_beta(errors[:, 0], errors[:, 1], train.beta_logit)
    except ValueError:  # check_beta reports this as a finding
        return math.inf


def numeric_beta(train: Train, reference: pd.DataFrame | None) -> float:
    """Configured beta; for `auto` the suggested one, or `FALLBACK` if there is none."""
    if not isinstance(train.beta, str):
        return train.beta
    beta = math.inf if reference is None else suggested_beta(train, reference)
    return beta if math.isfinite(beta) else FALLBACK


def check_beta(train: Train, reference: pd.DataFrame | None) -> Finding:
    """Compare the configured beta with the suggested one.

    Args:
        train: has beta and beta_logit.
        reference: table of reference errors; None if they are computed online, which allows no suggestion.
    """
    expected = f"the suggested one, within a factor of {MOST_OFF:g}"
    if reference is None:
        return Finding(
            "beta", "fine", f"beta {train.beta}; not compared, there is no table of reference errors", expected
        )
    beta = suggested_beta(train, reference)
    if not math.isfinite(beta):
        advice = "Winners and losers are the same clips, or the table is wrong: re-run the stages pairs and reference."
        return Finding("beta", "alarm", "the reference's errors on winners and losers do not differ", expected, advice)
    measured = f"beta {train.beta}, suggested {beta:.3g} (train.beta_logit {train.beta_logit:g})"
    off = 1.0 if isinstance(train.beta, str) else max(train.beta / beta, beta / train.beta)
    status: Status = "warning" if off > MOST_OFF else "fine"
    advice = f"Set train.beta nearer to {beta:.2g}, or to auto; a higher one holds the model closer to the reference."
    return Finding("beta", status, measured, expected, advice, beta)
