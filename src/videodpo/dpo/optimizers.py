"""Optimizers by name, and operations of every optimizer step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from videodpo.config import Train
from videodpo.config.errors import InputError


def make_optimizer(weights: Sequence[torch.nn.Parameter], train: Train) -> torch.optim.Optimizer:
    """Create AdamW with moments in float32, or in 8 bits by torchao (arXiv 2110.02861).

    Raises:
        InputError: torchao is needed but not installed.
    """
    options: dict[str, Any] = {"lr": train.learning_rate, "weight_decay": train.weight_decay}
    if train.optimizer == "adamw":
        return torch.optim.AdamW(weights, fused=True, **options)
    try:
        from torchao.optim import AdamW8bit, AdamWFp8
    except ImportError as error:
        reason = "needs torchao; pip install 'videodpo[lowbit]'"
        raise InputError(f"train.optimizer: {train.optimizer!r} {reason}") from error
    kind = AdamW8bit if train.optimizer == "adamw_8bit" else AdamWFp8
    optimizer: torch.optim.Optimizer = kind(weights, **options)
    return optimizer


def start_moments(optimizer: torch.optim.Optimizer) -> None:
    """Initialise the optimizer state eagerly, so that a fresh optimizer and a restored one have the same keys.

    Lazy initialisation would leave out weights without a gradient, such as those of an expert that is not used yet.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    set_rate(optimizer, 0.0)
    optimizer.step()
    for weight in weights:
        optimizer.state[weight]["step"].zero_()
    set_rate(optimizer, rates[0])
    optimizer.zero_grad(set_to_none=True)


def share_of_learning_rate(train: Train, step: int, num_steps: int) -> float:
    """Factor on `train.learning_rate` in one step: linear warm-up, then the configured decay.

    Args:
        train: has the length of the warm-up and the kind of decay.
        step: number of the step, from 0.
        num_steps: number of steps of the training, after which the decay reaches 0.
    """
    if step < train.warmup_steps:
        return (step + 1) / train.warmup_steps
    done = (step - train.warmup_steps) / max(1, num_steps - train.warmup_steps)
    shares = {"none": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return shares[train.learning_rate_decay]


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):  # torchao compiles its step with the tensor
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def clip_gradients(weights: Sequence[torch.nn.Parameter], max_norm: float, loss_scale: float = 1.0) -> float:
    """Divide all gradients by `loss_scale`, then scale them so that their norm is at most `max_norm`.

    Args:
        weights: trainable weights, changed in place; a weight without a gradient is ignored.
        max_norm: largest norm over all gradients together.
        loss_scale: factor that the loss had in the backward pass.

    Returns:
        Norm before clipping; not finite if any gradient is not.
    """
    if loss_scale != 1.0:
        for weight in weights:
            if weight.grad is not None:  # None for an expert that was not used
                weight.grad.div_(loss_scale)
    norm = torch.nn.utils.clip_grad_norm_(weights, max_norm)
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
