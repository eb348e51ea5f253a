"""One clip's tokens over several processes (Ulysses, arXiv 2309.14509), by the plans that diffusers' networks bring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from videodpo.config.errors import InputError
from videodpo.runtime.compat import diffusers


def enable_context_parallel(networks: Mapping[str, Any], degree: int, device: str) -> None:
    """Give each of `degree` neighbouring processes its share of the tokens, and around the attention of the heads.

    Every process calls it, and has the whole prediction. What a process's backward pass leaves is its tokens' part of
    the gradient: the gradient is the sum over the neighbours.

    Args:
        networks: name to network. device: "cuda" or "cpu".

    Raises:
        InputError: a network has no plan, or a number of heads that `degree` does not divide.
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
