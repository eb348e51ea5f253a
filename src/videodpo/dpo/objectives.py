"""Loss of a batch of pairs by the configured objective, from the denoising errors of winners and losers.

Legend: B pairs, C latent channel, F latent frame, H latent height, W latent width.
"""

from __future__ import annotations

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
        loss: scalar, mean of `per_pair`.
        per_pair: [B], weight times the objective's term; the term of dpo is -log sigmoid(margin).
        margin: [B], DPO's logit for any objective. Above 0, the policy prefers the winner more than the reference does.
        accuracy: scalar in [0, 1], share of pairs with a margin above 0.
        safeguard: [B], factor of `objective.sdpo_mu` on the loser's gradient, below 1 where it acts; None without it.
    """

    loss: torch.Tensor
    per_pair: torch.Tensor
    margin: torch.Tensor
    accuracy: torch.Tensor
    safeguard: torch.Tensor | None = None


def denoising_errors(prediction: torch.Tensor, target: torch.Tensor, per_column: bool = False) -> torch.Tensor:
    """Return the mean squared error over all dimensions but the batch.

    Both are cast to float32 first, because a subtraction in bfloat16 moves a logit at beta 5000 by up to 1.

    Args:
        prediction: [B, ...], the denoiser's output.
        target: [B, ...], its training target.
        per_column: return one error per latent column, as the released VideoDPO code does.

    Returns:
        float32 [B]; with `per_column`, [B, C, F, H, W] becomes [B, W].

    Raises:
        InputError: `per_column` is set, but the tensors do not have five dimensions.
    """
    squares = (prediction.float() - target.float()).square()
    if not per_column:
        return squares.flatten(1).mean(dim=1)
    if squares.ndim != 5:
        raise InputError(f"per_column: shape {tuple(squares.shape)}, [B, C, F, H, W] is needed")
    return squares.mean(dim=(1, 2, 3))


@torch.no_grad()
def residual_overlap(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean product of winner and loser residuals, [2B, ...] (winners, then losers) to float32 [B].

    The overlap of a sample with itself is its denoising error. No gradient flows through it.

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
    """DPO loss for diffusion models (Wallace et al. 2023, arXiv 2311.12908, eq. 14), one logit per video.

    Args:
        policy_pred, reference_pred, target: [2B, ...], the B winners, then the B losers. Winner and loser of a pair
            share noise and timestep.
        beta: strength of the preference. The difference of errors is multiplied by beta / 2.
        weight: [B] pair weights; None means 1.

    Raises:
        InputError: shapes differ, or the batch is odd or empty.
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
    """Same loss as `diffusion_dpo_loss`, from errors that are already computed. All tensors are [B].

    delta = (policy_w - policy_l) - (ref_w - ref_l); loss = weight * -log sigmoid(-(beta / 2) * delta).

    Args:
        policy_w: errors of the policy on the winners.
        policy_l: errors of the policy on the losers.
        ref_w: errors of the reference on the winners.
        ref_l: errors of the reference on the losers.
        beta: strength of the preference.
        weight: pair weights; None means 1.

    Raises:
        InputError: an argument does not have the shape [B].
    """
    if policy_w.ndim != 1:
        raise InputError(f"policy_w: shape {tuple(policy_w.shape)}, [B] is needed (one number per pair)")
    return preference_loss(Objective(), policy_w, policy_l, ref_w, ref_l, beta=beta, weight=weight)


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
    """Loss of any objective: weight * (term + sft_weight * policy_w), averaged over latent columns if there are any.

    The weight also multiplies the added error. It thus says how much a pair counts, not which loss the pair gets.

    Args:
        policy_w, policy_l, ref_w, ref_l: errors, all [B], or all [B, W] with one logit per latent column. sft and mapo
            need the reference errors only for the logged margin, not for the loss.
        beta: strength of the preference. DPO's logit is -(beta / 2) * ((policy_w - policy_l) - (ref_w - ref_l)).
        weight: [B] pair weights; None means 1.
        overlap: [B], the result of `residual_overlap`; only `objective.sdpo_mu` needs it.

    Raises:
        InputError: shapes disagree, or `objective.sdpo_mu` is set without an overlap.
    """
    if policy_w.ndim not in (1, 2):
        raise InputError(f"policy_w: shape {tuple(policy_w.shape)}, [B] or [B, W] is needed")
    _check_shapes(policy_w.shape, policy_l=policy_l, ref_w=ref_w, ref_l=ref_l)
    _check_shapes(policy_w.shape[:1], weight=weight)
    safeguard = None
    if objective.sdpo_mu is not None:
        if overlap is None:
            raise InputError("overlap: None, objective.sdpo_mu needs it (see residual_overlap)")
        safeguard = terms.sdpo_scale(policy_w, overlap, objective.sdpo_mu)
        # Scale only the gradient: the difference is 0, so the value stays bit-identical.
        policy_l = policy_l.detach() + safeguard * (policy_l - policy_l.detach())
    # In this order, a policy equal to the reference gives exactly 0, and the DPO loss is exactly weight * ln 2.
    delta = (policy_w - ref_w) - (policy_l - ref_l)
    margin = -0.5 * beta * delta
    match objective.loss:
        case "dpo":
            per_logit = terms.dpo(margin, objective.label_smoothing)
        case "ipo":
            per_logit = terms.ipo(margin)
        case "hinge":
            per_logit = terms.hinge(margin)
        case "sft":
            per_logit = policy_w
        case "mapo":
            per_logit = terms.mapo(policy_w, policy_l, beta, objective.mapo_weight)
    if objective.sft_weight:
        per_logit = per_logit + objective.sft_weight * policy_w
    if policy_w.ndim == 2:
        per_logit, margin = per_logit.mean(dim=1), margin.mean(dim=1)
    per_pair = per_logit if weight is None else weight.to(per_logit) * per_logit
    accuracy = (margin > 0).float().mean()
    return DPOLoss(per_pair.mean(), per_pair, margin, accuracy, safeguard)


def auto_beta(ref_w: np.ndarray, ref_l: np.ndarray, logit: float) -> float:
    """Return beta = 2 * logit / std(ref_w - ref_l) over all finite reference errors.

    With this beta, a pair has the logit `logit` if its policy errors moved apart by one standard deviation of the
    reference's difference between winner and loser. This does not depend on the unit of the denoiser's target.

    Args:
        ref_w: errors of the reference on the winners, any shape.
        ref_l: errors of the reference on the losers, the same shape.
        logit: target logit.

    Raises:
        InputError: shapes differ, or the standard deviation is 0 or not finite.
    """
    if ref_w.shape != ref_l.shape:
        raise InputError(f"reference errors: shapes {ref_w.shape} of winners and {ref_l.shape} of losers differ")
    difference = ref_w.astype(np.float64) - ref_l.astype(np.float64)
    difference = difference[np.isfinite(difference)]
    # Test the range: by rounding, equal numbers can have a tiny standard deviation.
    varies = difference.size > 0 and np.ptp(difference) > 0
    spread = float(difference.std()) if varies else 0.0
    if not 0 < spread < np.inf:
        raise InputError(
            "train.beta: auto needs finite reference errors whose difference between winner and loser varies; none of "
            f"these {ref_w.size} pairs of errors is finite, or all differences are equal; set train.beta to a number"
        )
    return 2 * logit / spread


def _check_partners(target: torch.Tensor) -> None:
    if len(target) % 2 or not len(target):
        raise InputError(
            f"batch of {len(target)}: equal numbers of winners and losers are needed, at least one of each"
        )


def _check_shapes(needed: torch.Size, **values: torch.Tensor | None) -> None:
    for name, value in values.items():
        if value is not None and value.shape != needed:
            raise InputError(f"{name}: shape {tuple(value.shape)}, {tuple(needed)} is needed")
