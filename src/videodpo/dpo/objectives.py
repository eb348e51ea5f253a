"""Denoising errors of winners and losers to the loss of a batch of pairs, by the configured objective.

Legend: B pairs, C latent channel, F latent frame, H latent height, W latent width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from videodpo.config.errors import InputError
from videodpo.config.training import Objective
from videodpo.dpo import preference_terms as terms


@dataclass(frozen=True)
class DPOLoss:
    """Loss of a batch of pairs.

    Attributes:
        loss: scalar, mean over pairs of `per_pair`.
        per_pair: [B], weight times the objective's term; for dpo -log sigmoid(margin).
        margin: [B], DPO's logit whatever the objective: above 0 the policy prefers the winner more than the reference
            does.
        accuracy: scalar in [0, 1], share of pairs with a margin above 0.
    """

    loss: torch.Tensor
    per_pair: torch.Tensor
    margin: torch.Tensor
    accuracy: torch.Tensor


def denoising_errors(prediction: torch.Tensor, target: torch.Tensor, per_column: bool = False) -> torch.Tensor:
    """Mean squared error over everything but the batch, [B, ...] to [B], taken in float32.

    With `per_column` it is that of the released VideoDPO code, [B, C, F, H, W] to [B, W]: one number a latent column.
    Subtracting in bfloat16 moves a logit at beta 5000 by up to 1, so the cast comes first.

    Raises:
        InputError: columns are asked of tensors that have not five dimensions.
    """
    squares = (prediction.float() - target.float()).square()
    if not per_column:
        return squares.flatten(1).mean(dim=1)
    if squares.ndim != 5:
        raise InputError(f"per_column: shape {tuple(squares.shape)}, [B, C, F, H, W] is needed")
    return squares.mean(dim=(1, 2, 3))


@torch.no_grad()
def residual_overlap(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean product of the winner's and the loser's residuals, [2B, ...] (winners, then losers) to float32 [B].

    Of a winner with itself it would be its denoising error. No gradient.

    Raises:
        InputError: the batch is odd or empty.
    """
    _check_partners(target)
    winner, loser = (prediction.float() - target.float()).flatten(1).chunk(2)
    return (winner * loser).mean(dim=1)


def diffusion_dpo_loss(
    policy_pred: torch.Tensor,
    reference_pred: torch.Tensor,
    target: torch.Tensor,
    *,
    beta: float,
    weight: torch.Tensor | None = None,
) -> DPOLoss:
    """DPO for diffusion models (Wallace et al. 2023, arXiv 2311.12908, eq. 14), one logit a video.

    Args:
        policy_pred, reference_pred, target: [2B, ...], the B winners, then the B losers; winner and loser
            of a pair share noise and timestep.
        beta: strength; the factor that multiplies the difference of errors is beta / 2.
        weight: [B] pair weights, or None for 1.

    Raises:
        InputError: shapes differ, or the batch is odd.
    """
    if not policy_pred.shape == reference_pred.shape == target.shape:
        raise InputError(
            f"shapes differ: policy {tuple(policy_pred.shape)}, reference {tuple(reference_pred.shape)}, "
            f"target {tuple(target.shape)}"
        )
    _check_partners(target)
    policy_w, policy_l = denoising_errors(policy_pred, target).chunk(2)
    reference_w, reference_l = denoising_errors(reference_pred, target).chunk(2)
    return diffusion_dpo_loss_from_errors(policy_w, policy_l, reference_w, reference_l, beta=beta, weight=weight)


def diffusion_dpo_loss_from_errors(
    policy_w: torch.Tensor,
    policy_l: torch.Tensor,
    ref_w: torch.Tensor,
    ref_l: torch.Tensor,
    *,
    beta: float,
    weight: torch.Tensor | None = None,
) -> DPOLoss:
    """The same loss from errors alone: all arguments [B].

    delta = (policy_w - policy_l) - (ref_w - ref_l); loss = weight * -log sigmoid(-(beta / 2) * delta).

    Raises:
        InputError: an argument is not a vector of B numbers.
    """
    if policy_w.ndim != 1:
        raise InputError(f"policy_w: shape {tuple(policy_w.shape)}, [B] is needed (one number a pair)")
    return preference_loss(Objective(), policy_w, policy_l, ref_w, ref_l, beta=beta, weight=weight)


@dataclass(frozen=True)
class _Logits:
    """What an objective's term may be made from; tensors [B] or [B, W]."""

    policy_w: torch.Tensor
    policy_l: torch.Tensor
    margin: torch.Tensor
    beta: float


_TERMS: dict[str, Callable[[Objective, _Logits], torch.Tensor]] = {
    "dpo": lambda objective, x: terms.dpo(x.margin, objective.label_smoothing),
    "ipo": lambda objective, x: terms.ipo(x.margin),
    "hinge": lambda objective, x: terms.hinge(x.margin),
    "sft": lambda objective, x: x.policy_w,
    "mapo": lambda objective, x: terms.mapo(x.policy_w, x.policy_l, x.beta, objective.mapo_weight),
}


def preference_loss(
    objective: Objective,
    policy_w: torch.Tensor,
    policy_l: torch.Tensor,
    ref_w: torch.Tensor,
    ref_l: torch.Tensor,
    *,
    beta: float,
    weight: torch.Tensor | None = None,
    overlap: torch.Tensor | None = None,
) -> DPOLoss:
    """Loss by any objective: weight * (its term + sft_weight * policy_w), a mean over columns where there are some.

    The weight multiplies the added error too, so that it says how much a pair counts and not which loss it gets.

    Args:
        policy_w, policy_l, ref_w, ref_l: errors, all [B], or all [B, W] with one logit a latent column; sft and mapo
            need the reference's for the margin that is logged, not for the loss.
        beta: strength; DPO's logit is -(beta / 2) * ((policy_w - policy_l) - (ref_w - ref_l)).
        weight: [B] pair weights, or None for 1.
        overlap: [B] of `residual_overlap`; only `objective.sdpo_mu` needs it.

    Raises:
        InputError: shapes do not agree, or the safeguard has no overlap.
    """
    if policy_w.ndim not in (1, 2):
        raise InputError(f"policy_w: shape {tuple(policy_w.shape)}, [B] or [B, W] is needed")
    _check_shapes(policy_w.shape, policy_l=policy_l, ref_w=ref_w, ref_l=ref_l)
    _check_shapes(policy_w.shape[:1], weight=weight)
    if objective.sdpo_mu is not None:
        if overlap is None:
            raise InputError("overlap: None, objective.sdpo_mu needs it (see residual_overlap)")
        scale = terms.sdpo_scale(policy_w, overlap, objective.sdpo_mu)
        # The scale multiplies a zero with a gradient: the value stays what it was to the last bit.
        policy_l = policy_l.detach() + scale * (policy_l - policy_l.detach())
    # In this order a policy equal to the reference gives exactly 0, and so DPO exactly weight * ln 2.
    delta = (policy_w - ref_w) - (policy_l - ref_l)
    margin = -0.5 * beta * delta
    per_logit = _TERMS[objective.loss](objective, _Logits(policy_w, policy_l, margin, beta))
    if objective.sft_weight:
        per_logit = per_logit + objective.sft_weight * policy_w
    if policy_w.ndim == 2:
        per_logit, margin = per_logit.mean(dim=1), margin.mean(dim=1)
    per_pair = per_logit if weight is None else weight.to(per_logit) * per_logit
    return DPOLoss(per_pair.mean(), per_pair, margin, accuracy=(margin > 0).float().mean())


def auto_beta(ref_w: np.ndarray, ref_l: np.ndarray, logit: float) -> float:
    """beta = 2 * logit / std(ref_w - ref_l), from all finite reference errors (arrays of one shape).

    A pair whose policy errors moved apart by one standard deviation of the reference's difference between winner and
    loser then has the logit `logit`, whatever unit the denoiser's target has.

    Raises:
        InputError: shapes differ, or the spread is 0.
    """
    if ref_w.shape != ref_l.shape:
        raise InputError(f"reference errors: {ref_w.shape} of winners, {ref_l.shape} of losers")
    difference = ref_w.astype(np.float64) - ref_l.astype(np.float64)
    difference = difference[np.isfinite(difference)]
    # Equal numbers can have a tiny standard deviation by rounding: whether they vary is asked of their range.
    varies = difference.size > 0 and np.ptp(difference) > 0
    spread = float(difference.std()) if varies else 0.0
    if not 0 < spread < np.inf:
        raise InputError(
            f"beta: 'auto' needs reference errors that are finite and whose differences between winner and "
            f"loser vary; these {ref_w.size} are not or do not. Give train.beta a number"
        )
    return 2 * logit / spread


def _check_partners(target: torch.Tensor) -> None:
    if len(target) % 2 or not len(target):
        raise InputError(f"batch of {len(target)}: winners and losers come in equal numbers, at least one each")


def _check_shapes(needed: torch.Size, **values: torch.Tensor | None) -> None:
    for name, value in values.items():
        if value is not None and value.shape != needed:
            raise InputError(f"{name}: shape {tuple(value.shape)}, {tuple(needed)} is needed")
