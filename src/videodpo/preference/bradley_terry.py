"""Weights of dimensions that explain votes best: a Bradley-Terry model on differences of scores.

P(left is preferred) = sigmoid(sum over d of w_d (left_d - right_d)), with w_d >= 0. The OmniScore is such a weighted
sum, up to a factor that does not change its order.

Legend: V votes, D dimensions, R fits, P prompts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RIDGE = 1.0  # keeps the weights finite where they could explain every vote; small against the votes themselves
FOLDS = 10
SWEEPS = 500
TOLERANCE = 1e-5  # largest change of a weight in the last sweep, in units of 1 / spread of the dimension

Floats = NDArray[np.float64]


def fit_weights(differences_VD: Floats, choices_V: Floats, counts_RV: Floats | None = None) -> Floats:
    """Fit the weights by maximum likelihood with a small ridge penalty, which treats all dimensions alike.

    Each step minimises an upper bound of the loss in one weight: its second derivative is at most that at a probability
    of 1/2 (Böhning and Lindsay 1988). Every step therefore lowers the loss. All fits advance together.

    Args:
        differences_VD: scaled score of the left clip minus that of the right one.
        choices_V: 1 if the left clip was preferred, 0 for the right one, 0.5 for a tie.
        counts_RV: how often each fit counts each vote; by default, one fit counts every vote once.

    Returns:
        Weights [R, D], 0 or above. A dimension that never differs has weight 0.
    """
    counts_RV = np.ones((1, len(choices_V))) if counts_RV is None else counts_RV
    spread_D = np.sqrt(np.square(differences_VD).mean(axis=0))
    spread_D[spread_D == 0] = 1.0
    scaled_DV = np.ascontiguousarray((differences_VD / spread_D).T)
    bound_RD = np.einsum("rv,dv->rd", counts_RV, np.square(scaled_DV)) / 4 + RIDGE
    beta_RD, logits_RV = np.zeros_like(bound_RD), np.zeros_like(counts_RV)
    for _ in range(SWEEPS):
        before_RD = beta_RD.copy()
        for d, scaled_V in enumerate(scaled_DV):
            errors_RV = counts_RV * (0.5 + 0.5 * np.tanh(0.5 * logits_RV) - choices_V)
            # einsum, because BLAS would start threads, which wait for each other on busy cores: 30 times slower.
            slope_R = np.einsum("rv,v->r", errors_RV, scaled_V) + RIDGE * beta_RD[:, d]
            new_R = np.maximum(0.0, beta_RD[:, d] - slope_R / bound_RD[:, d])
            logits_RV += (new_R - beta_RD[:, d])[:, None] * scaled_V
            beta_RD[:, d] = new_R
        if np.abs(beta_RD - before_RD).max() < TOLERANCE:
            break
    return np.asarray(beta_RD / spread_D)


def held_out_logits(differences_VD: Floats, choices_V: Floats, prompts_V: NDArray[np.int64], seed: int) -> Floats:
    """Predict each vote with weights fitted to the votes on other prompts, [V].

    Args:
        differences_VD, choices_V: as for `fit_weights`.
        prompts_V: index of each vote's prompt, from 0. There must be at least two prompts.
        seed: of the assignment of prompts to the folds.
    """
    fold_P = np.random.Generator(np.random.PCG64(seed)).permutation(int(prompts_V.max()) + 1) % FOLDS
    fold_V = fold_P[prompts_V]
    seen_RV = (fold_V != np.arange(fold_P.max() + 1)[:, None]).astype(float)
    weights_RD = fit_weights(differences_VD, choices_V, seen_RV)
    logits_V: Floats = np.einsum("vd,vd->v", differences_VD, weights_RD[fold_V])
    return logits_V


def resampled_weights(
    differences_VD: Floats, choices_V: Floats, prompts_V: NDArray[np.int64], *, resamples: int, seed: int
) -> Floats:
    """Fit the weights to bootstrap resamples of the prompts, each with all its votes, [R, D]; arguments as above."""
    num_prompts = int(prompts_V.max()) + 1
    rng = np.random.Generator(np.random.PCG64(seed))
    counts_RP = rng.multinomial(num_prompts, np.full(num_prompts, 1 / num_prompts), size=resamples).astype(float)
    return fit_weights(differences_VD, choices_V, counts_RP[:, prompts_V])


def agreement(logits_V: Floats, choices_V: Floats) -> Floats:
    """1 where a difference of scores has the sign of the vote, 0 where it has the other one, 0.5 where it is zero.

    Args:
        choices_V: without ties.
    """
    return 0.5 * (1 + np.sign(logits_V) * np.sign(choices_V - 0.5))
