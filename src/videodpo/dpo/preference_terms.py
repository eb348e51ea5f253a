"""Terms of each objective from margins and errors, one per logit, before weighting and averaging.

Tensors are [B], or [B, W] with one logit per latent column. A term has the shape of its inputs.
Legend: B pairs, W latent width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from videodpo.config.errors import InputError

# MaPO's c. The released code uses this value at every noise level.
_SIGNAL_TO_NOISE = 0.5
_SERIES_BELOW = 0.1


def dpo(margin: torch.Tensor, label_smoothing: float = 0.0) -> torch.Tensor:
    """DPO: -(1 - eps) log sigmoid(m) - eps log sigmoid(-m), where eps is the share of pairs with swapped labels.

    Source: arXiv 2305.18290, eq. 7; with eps, "conservative DPO" (Mitchell 2023). For eps above 0 the minimum is at
    m = log((1 - eps) / eps) instead of infinity.
    """
    if not label_smoothing:  # avoid 0 * infinity in the second term
        return -F.logsigmoid(margin)
    return -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)


def ipo(margin: torch.Tensor) -> torch.Tensor:
    """IPO: (m - 1/2)^2, which is b^2 (-delta - 1 / (2 b))^2 with b = beta / 2.

    Source: Azar et al. 2023, arXiv 2310.12036, eq. 17. Its log-ratio is -delta here, and its tau is b. Without the
    factor b^2, the gradient at beta 5000 would be 3e-7 of DPO's, near the epsilon of AdamW.
    """
    return (margin - 0.5).square()


def hinge(margin: torch.Tensor) -> torch.Tensor:
    """Hinge: max(0, 1 - m), which is max(0, 1 + b delta) with b = beta / 2. No gradient for margins above 1.

    Source: SLiC-HF, arXiv 2305.10425, applied to DPO's margin as in the language-model libraries.
    """
    return F.relu(1 - margin)


def mapo(policy_w: torch.Tensor, policy_l: torch.Tensor, beta: float, weight: float) -> torch.Tensor:
    """MaPO, a loss without a reference: e_w - weight * log sigmoid(beta * (o_w - o_l)).

    o = c e / (exp(c e) - 1) is the score of an error e, with c = 0.5.

    Source: Hong et al. 2024, arXiv 2406.06424, and its released code, where beta is 1000 (the number of timesteps) and
    weight is 0.1. As the error e rises, o falls from 1 by about e / 4. So beta acts on o about half as strongly as in
    DPO's margin.

    Args:
        policy_w: errors e_w of the policy on the winners.
        policy_l: errors e_l of the policy on the losers.
        beta: factor on the difference of the scores.
        weight: factor on the preference term.
    """
    advantage = _mapo_score(policy_w) - _mapo_score(policy_l)
    return policy_w - weight * F.logsigmoid(beta * advantage)


def _mapo_score(error: torch.Tensor) -> torch.Tensor:
    """x / (exp(x) - 1) with x = c * error >= 0."""
    x = _SIGNAL_TO_NOISE * error
    is_small = x < _SERIES_BELOW
    # At 0 the quotient is 0 / 0; near 0 its gradient is a difference of numbers as large as 1 / x. Both branches of
    # `where` are kept finite, because an infinity in the branch that is not taken would give a NaN gradient.
    small, large = torch.where(is_small, x, 0.0), torch.where(is_small, 1.0, x)
    series = 1 - small / 2 + small**2 / 12 - small**4 / 720 + small**6 / 30240
    # exp(-x), because exp(x) is infinite in float32 from x = 89.
    quotient = large * torch.exp(-large) / -torch.expm1(-large)
    return torch.where(is_small, series, quotient)


@torch.no_grad()
def sdpo_scale(policy_w: torch.Tensor, overlap: torch.Tensor, mu: float) -> torch.Tensor:
    """Factor on the loser's gradient that keeps a step from raising the winner's error, [B] in [0, 1].

    `clip((1 - mu) |g_w|^2 / <g_w, g_l>, 0, 1)` where the product is positive, else 1 (SDPO, arXiv 2511.03317). g are
    the gradients of the errors with respect to the denoiser's output, 2 / N times the residuals. The quotient is
    therefore policy_w / overlap. Each pair has its own factor; the paper's released code has one per batch. No gradient
    flows through the factor.

    Args:
        policy_w: [B] errors of the winners.
        overlap: [B], the result of `residual_overlap`.
        mu: minimum share of the winner's own descent that is kept, in [0, 1).

    Raises:
        InputError: shapes differ, or a pair has more than one error.
    """
    if policy_w.ndim != 1 or overlap.shape != policy_w.shape:
        raise InputError(f"sdpo_mu: errors {tuple(policy_w.shape)}, overlap {tuple(overlap.shape)}; both need [B]")
    scale = ((1 - mu) * policy_w / overlap).clamp(0, 1)
    return torch.where(overlap > 0, scale, 1.0)
