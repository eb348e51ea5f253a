"""RAFT large, from torchvision, with the weights that its authors publish."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torchvision.models.optical_flow import raft_large

from videodpo.scorers.networks.checkpoints import load_weights, read_checkpoint

_RENAMED = (
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"_encoder\.conv1\.", "_encoder.convnormrelu.0."),
    (r"_encoder\.norm1\.", "_encoder.convnormrelu.1."),
    (r"_encoder\.conv2\.", "_encoder.conv."),
    (r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(layer\d\.\d)\.norm(\d)\.", r"\1.convnormrelu\2.1."),
    (r"block\.encoder\.convc(\d)\.", r"block.motion_encoder.convcorr\1.0."),
    (r"block\.encoder\.convf(\d)\.", r"block.motion_encoder.convflow\1.0."),
    (r"block\.encoder\.conv\.", "block.motion_encoder.conv.0."),
    (r"block\.gru\.conv([zrq])(\d)\.", r"block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)


def load_raft(weights: Path, device: str) -> torch.nn.Module:
    """The network in eval mode; takes frames on the scale -1..1, sides multiples of 8 and at least 128.

    Args:
        weights: `raft-things.pth`, or a file with torchvision's own names.
    """
    tensors = read_checkpoint(weights)
    if any(name.startswith("fnet.") for name in tensors):
        # norm3 is the norm of `downsample`, stored a second time.
        tensors = {_torchvision_name(name): value for name, value in tensors.items() if ".norm3." not in name}
    network: torch.nn.Module = raft_large(weights=None)
    load_weights(network, tensors, weights)
    return network.to(device)


def _torchvision_name(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
