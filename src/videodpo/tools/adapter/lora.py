"""Read a saved LoRA, and add it to weights.

Legend: R rank, O output channels, I input channels; a convolution has further axes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from videodpo.config.errors import InputError
from videodpo.runtime.compat.diffusers import lora_metadata_key
from videodpo.storage.tensors import TensorFile

if TYPE_CHECKING:
    import torch

_DOWN, _UP, _MAGNITUDE = ".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"


class LoraLayer(NamedTuple):
    """Change of one layer: weight + scale * up @ down."""

    down: torch.Tensor
    """[R, I, ...]."""
    up: torch.Tensor
    """[O, R, ...]."""
    scale: float
    """alpha / rank, or alpha / sqrt(rank) with rslora."""
    magnitude: torch.Tensor | None = None
    """DoRA: norm of each output channel's weights, [O, ...]."""

    def added_to(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the changed weight [O, I, ...] in its own type; the sum is computed in float32."""
        change = self.up.float().flatten(1) @ self.down.float().flatten(1)
        changed = weight.float() + self.scale * change.view(weight.shape)
        if self.magnitude is not None:  # arXiv 2402.09353, equation 5
            norms = changed.flatten(1).norm(dim=1)
            factors = self.magnitude.float().flatten() / norms
            changed = changed * factors.view(-1, *[1] * (weight.ndim - 1))
        return changed.to(weight.dtype)


def read_lora(file: Path, network: str) -> dict[str, LoraLayer]:
    """Read what `save_adapter` wrote for one network: changed layers by their names in diffusers.

    Args:
        network: prefix of the names, without its dot; a file without the prefix is read too.

    Raises:
        InputError: the file is not readable, or its tensors do not belong to a LoRA.
    """
    tensors = TensorFile(file)
    prefix = f"{network}."
    settings = {
        name.removeprefix(prefix): value
        for name, value in json.loads(tensors.metadata.get(lora_metadata_key(), "{}")).items()
    }
    layers: dict[str, LoraLayer] = {}
    for name in tensors.names:
        if not name.endswith(_DOWN):
            continue
        layer = name.removesuffix(_DOWN)
        down = tensors.get(name)
        magnitude = tensors.get(f"{layer}{_MAGNITUDE}") if f"{layer}{_MAGNITUDE}" in tensors.names else None
        scale = _scale(settings, rank=len(down))
        layers[layer.removeprefix(prefix)] = LoraLayer(down, tensors.get(f"{layer}{_UP}"), scale, magnitude)
    if not layers:
        raise InputError(f"{file}: it has no tensor *{_DOWN}; a LoRA that this package trained is needed")
    return layers


def _scale(settings: Mapping[str, float], rank: int) -> float:
    """Return the factor of the change; without settings, alpha is the rank."""
    alpha = settings.get("lora_alpha", rank)
    return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def add_lora(weights: dict[str, torch.Tensor], layers: Mapping[str, LoraLayer]) -> set[str]:
    """Change weights in place.

    Args:
        weights: tensors by name; those of a layer end in `.weight`.
        layers: changes by layer.

    Returns:
        Names of the layers that were found and changed.
    """
    found = {layer for layer in layers if f"{layer}.weight" in weights}
    for layer in found:
        weights[f"{layer}.weight"] = layers[layer].added_to(weights[f"{layer}.weight"])
    return found
