"""Networks with random weights, filled at memory speed: the libraries' own initialisation takes minutes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
from transformers.initialization import no_init_weights

M = TypeVar("M", bound=torch.nn.Module)
_DRAWN = 2**20 - 3  # random numbers, used repeatedly; a prime, so that no network has equal rows


def make(build: Callable[[], M], *, seed: int = 0, dtype: torch.dtype = torch.float32) -> M:
    """Build a network with weights of standard deviation 1 / sqrt(fan in), norms at 1 and biases at 0.

    Some published networks start training with weights at zero. Here none is zero: it would hide errors in its inputs.
    """
    with no_init_weights():
        network = build()
    drawn = torch.randn(_DRAWN, generator=torch.Generator().manual_seed(seed))
    for name, parameter in network.named_parameters():
        filled = _filled(name, parameter, drawn).to(dtype)
        if parameter.is_meta:  # built without memory
            torch.utils.swap_tensors(parameter, torch.nn.Parameter(filled))
        else:
            parameter.data = filled
    return network


def _filled(name: str, like: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    leaf = name.rpartition(".")[2]
    if like.ndim <= 1 and leaf in ("weight", "gamma", "logit_scale"):
        return torch.ones(like.shape)
    if like.ndim <= 1 and "bias" in leaf:
        return torch.zeros(like.shape)
    fan_in = math.prod(like.shape[1:]) if like.ndim > 1 else like.numel()
    repeated = drawn.repeat(-(-like.numel() // len(drawn)))[: like.numel()]
    return repeated.view(like.shape) / math.sqrt(fan_in)
