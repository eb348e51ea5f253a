"""Denoising errors of winners and losers to the DPO loss.

Legend: B pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class DPOLoss:
    """Loss of a batch of pairs.

    Attributes:
        loss: scalar, mean over pairs of `per_pair`.
        per_pair: [B], weight * -log sigmoid(margin).
        margin: [B], the logit: above 0 the policy prefers the winner more than the reference does.
        accuracy: scalar in [0, 1], share of pairs with a margin above 0.
    """

    loss: torch.Tensor
    per_pair: torch.Tensor
    margin: torch.Tensor
    accuracy: torch.Tensor


def denoising_errors(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error over everything but the batch, [B, ...] to [B], taken in float32.

    Subtracting in bfloat16 moves a logit at beta 5000 by up to 1, so the cast comes first.
    """
    return (prediction.float() - target.float()).square().flatten(1).mean(dim=1)


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
        ValueError: shapes differ, or the batch is odd.
    """
    if not policy_pred.shape == reference_pred.shape == target.shape:
        raise ValueError(
            f"shapes differ: policy {tuple(policy_pred.shape)}, reference {tuple(reference_pred.shape)}, "
            f"target {tuple(target.shape)}"
        )
    if len(target) % 2 or not len(target):
        raise ValueError(f"batch of {len(target)}: winners and losers come in equal numbers, at least one each")
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
        ValueError: an argument is not a vector of B numbers.
    """
    for name, value in (("policy_l", policy_l), ("ref_w", ref_w), ("ref_l", ref_l), ("weight", weight)):
        if value is not None and (value.ndim != 1 or value.shape != policy_w.shape):
            raise ValueError(
                f"{name}: shape {tuple(value.shape)}, {tuple(policy_w.shape)} is needed (one number a pair)"
            )
    # In this order a policy equal to the reference gives exactly 0, and so exactly weight * ln 2.
    delta = (policy_w - ref_w) - (policy_l - ref_l)
    margin = -0.5 * beta * delta
    per_pair = -F.logsigmoid(margin)
    if weight is not None:
        per_pair = weight.to(per_pair) * per_pair
    accuracy = (margin > 0).float().mean()
    return DPOLoss(loss=per_pair.mean(), per_pair=per_pair, margin=margin, accuracy=accuracy)
