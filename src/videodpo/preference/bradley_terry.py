"""Weights of dimensions that explain votes best: a Bradley-Terry model on differences of scores.

P(left is preferred) = sigmoid(sum over d of w_d (left_d - right_d)), with w_d >= 0. The OmniScore is such a weighted
sum, up to a factor that does not change its order.

Legend: V votes, D dimensions, R resamples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

RIDGE = 1.0  # keeps the weights finite where they could explain every vote; small against the votes themselves
FOLDS = 10

Floats = NDArray[np.float64]


def fit_weights(differences_VD: Floats, choices_V: Floats) -> Floats:
    """Fit the weights by maximum likelihood with a small ridge penalty, which treats all dimensions alike.

    Args:
        differences_VD: scaled score of the left clip minus that of the right one.
        choices_V: 1 if the left clip was preferred, 0 for the right one, 0.5 for a tie.

    Returns:
        Weights [D], 0 or above. A dimension that never differs has weight 0.
    """
    spread_D = np.sqrt(np.square(differences_VD).mean(axis=0))
    usable_D = spread_D > 0
    scaled_VD = differences_VD[:, usable_D] / spread_D[usable_D]

    def loss(beta_D: Floats) -> tuple[float, Floats]:
        logits_V = scaled_VD @ beta_D
        value = np.logaddexp(0.0, logits_V).sum() - choices_V @ logits_V + RIDGE / 2 * beta_D @ beta_D
        slope_D = scaled_VD.T @ (0.5 * (1 + np.tanh(logits_V / 2)) - choices_V) + RIDGE * beta_D
        return float(value), slope_D

    num_usable = int(usable_D.sum())
    found = minimize(loss, np.full(num_usable, 0.1), jac=True, method="L-BFGS-B", bounds=[(0.0, None)] * num_usable)
    weights_D = np.zeros(len(spread_D))
    weights_D[usable_D] = found.x / spread_D[usable_D]
    return weights_D


def held_out_logits(differences_VD: Floats, choices_V: Floats, prompts_V: NDArray[np.int64], seed: int) -> Floats:
    """Predict each vote with weights fitted to the votes on other prompts, [V].

    Args:
        differences_VD, choices_V: as for `fit_weights`.
        prompts_V: index of each vote's prompt, from 0. There must be at least two prompts.
        seed: of the assignment of prompts to the folds.
    """
    num_prompts = int(prompts_V.max()) + 1
    fold_of_prompt = np.random.Generator(np.random.PCG64(seed)).permutation(num_prompts) % FOLDS
    fold_V = fold_of_prompt[prompts_V]
    logits_V = np.zeros(len(choices_V))
    for fold in np.unique(fold_V):
        out_V = fold_V == fold
        logits_V[out_V] = differences_VD[out_V] @ fit_weights(differences_VD[~out_V], choices_V[~out_V])
    return logits_V


def resampled_weights(
    differences_VD: Floats, choices_V: Floats, prompts_V: NDArray[np.int64], *, resamples: int, seed: int
) -> Floats:
    """Fit the weights to bootstrap resamples of the prompts, each with all its votes, [R, D]; arguments as above."""
    rng = np.random.Generator(np.random.PCG64(seed))
    num_prompts = int(prompts_V.max()) + 1
    rows_of_prompt = [np.flatnonzero(prompts_V == prompt) for prompt in range(num_prompts)]
    fits = []
    for _ in range(resamples):
        rows = np.concatenate([rows_of_prompt[prompt] for prompt in rng.integers(0, num_prompts, num_prompts)])
        fits.append(fit_weights(differences_VD[rows], choices_V[rows]))
    return np.array(fits)


def agreement(logits_V: Floats, choices_V: Floats) -> Floats:
    """1 where a difference of scores has the sign of the vote, 0 where it has the other one, 0.5 where it is zero.

    Args:
        choices_V: without ties.
    """
    return 0.5 * (1 + np.sign(logits_V) * np.sign(choices_V - 0.5))
