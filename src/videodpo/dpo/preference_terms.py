"""Margins and errors of pairs to the term of each objective, one a logit, without weights and means.

Tensors are [B] or, with one logit a latent column, [B, W]; a term has the shape of what it is made from.
Legend: B pairs, W latent width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from videodpo.config.errors import InputError

# MaPO's c, fixed in its released code for every noise level.
_SIGNAL_TO_NOISE = 0.5
_SERIES_BELOW = 0.1


def dpo(margin: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """-(1 - eps) log sigmoid(m) - eps log sigmoid(-m), with eps the share of pairs labelled the wrong way round.

    Source: arXiv 2305.18290, eq. 7; with eps "conservative DPO" (Mitchell 2023). Where eps is above 0 the minimum is
    at m = log((1 - eps) / eps) instead of infinity.
    """
    if not label_smoothing:  # not 0 times the other side, which may be infinite
        return -F.logsigmoid(margin)
    return -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)


def ipo(margin: torch.Tensor) -> torch.Tensor:
    """(m - 1/2)^2, which is b^2 (-delta - 1 / (2 b))^2 with b = beta / 2.

    Source: Azar et al. 2023, arXiv 2310.12036, eq. 17, whose log-ratio is -delta here and whose tau is b. Without the
    factor b^2 its gradient at beta 5000 is 3e-7 of DPO's, near the epsilon of AdamW.
    """
    return (margin - 0.5).square()


def hinge(margin: torch.Tensor) -> torch.Tensor:
    """max(0, 1 - m), which is max(0, 1 + b delta) with b = beta / 2: no gradient from pairs with a margin above 1.

    Source: SLiC-HF, arXiv 2305.10425, on DPO's margin as in the language-model libraries.
    """
    return F.relu(1 - margin)


def mapo(policy_w: torch.Tensor, policy_l: torch.Tensor, beta: float, weight: float) -> torch.Tensor:
    """e_w - weight * log sigmoid(beta * (o_w - o_l)), o = c e / (exp(c e) - 1), c = 0.5: without the reference.

    Source: Hong et al. 2024, arXiv 2406.06424, and its released code, where beta is 1000 (the number of timesteps) and
    weight 0.1. o falls from 1 as the error rises, by about e / 4, so beta acts on o about half as in DPO's margin.
    """
    advantage = _mapo_score(policy_w) - _mapo_score(policy_l)
    return policy_w - weight * F.logsigmoid(beta * advantage)


def _mapo_score(error: torch.Tensor) -> torch.Tensor:
    """x / (exp(x) - 1) with x = c * error >= 0."""
    x = _SIGNAL_TO_NOISE * error
    is_small = x < _SERIES_BELOW
    # The quotient is 0 / 0 at 0, and its gradient a difference of numbers as large as 1 / x beside it. What `where`
    # drops is kept finite on either side: the gradient of an infinity that is dropped is not a number.
    small, large = torch.where(is_small, x, 0.0), torch.where(is_small, 1.0, x)
    series = 1 - small / 2 + small**2 / 12 - small**4 / 720 + small**6 / 30240
    # exp(-x) instead of exp(x), which is infinite in float32 from 89.
    quotient = large * torch.exp(-large) / -torch.expm1(-large)
    return torch.where(is_small, series, quotient)


@torch.no_grad()
def sdpo_scale(policy_w: torch.Tensor, overlap: torch.Tensor, mu: float) -> torch.Tensor:
    """Factor of the loser's gradient with which a step does not raise the winner's error, [B] in [0, 1].

    clip((1 - mu) |g_w|^2 / <g_w, g_l>, 0, 1) where the product is positive, else 1 (SDPO, arXiv 2511.03317). g are the
    errors' gradients by the denoiser's output, 2 / N times the residuals, so that the quotient is policy_w / overlap.
    One factor a pair; the paper's released code has one a batch. No gradient.

    Args:
        policy_w: [B] errors of the winners.
        overlap: [B] of `residual_overlap`.
        mu: in [0, 1); share of the winner's own descent that is kept at least.

    Raises:
        InputError: shapes differ, or there is more than one error a pair.
    """
    if policy_w.ndim != 1 or overlap.shape != policy_w.shape:
        raise InputError(f"sdpo_mu: errors {tuple(policy_w.shape)}, overlap {tuple(overlap.shape)}; both need [B]")
    scale = ((1 - mu) * policy_w / overlap).clamp(0, 1)
    return torch.where(overlap > 0, scale, 1.0)
