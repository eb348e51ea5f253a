"""Context parallelism: split one clip's tokens over several ranks (Ulysses, arXiv 2309.14509) by diffusers' plans."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from videodpo.config.errors import InputError
from videodpo.runtime.compat import diffusers


def enable_context_parallel(networks: Mapping[str, Any], degree: int, device: str) -> None:
    """Split the tokens over `degree` neighbouring ranks; within attention, split the heads instead.

    Every rank must call this. Each rank gets the full prediction, but its backward pass yields only the part of the
    gradient that belongs to its tokens. The gradient is the sum over the neighbouring ranks.

    Args:
        networks: name to network.
        degree: number of ranks per clip.
        device: "cuda" or "cpu".

    Raises:
        InputError: a network has no plan, or its number of heads is not divisible by `degree`.
    """
    import torch.distributed
    from torch.distributed.device_mesh import init_device_mesh

    for name, network in networks.items():
        if not diffusers.has_context_parallel_plan(network):
            raise InputError(f"train_runtime.context_parallel: {degree}, but diffusers has no plan for {name}; use 1")
        if (heads := network.config.num_attention_heads) % degree:
            raise InputError(f"train_runtime.context_parallel: {degree} does not divide the {heads} heads of {name}")
    groups = torch.distributed.get_world_size() // degree
    mesh = init_device_mesh(device, (groups, 1, degree), mesh_dim_names=("data", "ring", "ulysses"))
    diffusers.enable_context_parallel(list(networks.values()), degree, mesh, device)
