"""Internals of DoRA in peft. Works with peft 0.21.2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def measure_dora_magnitudes(network: torch.nn.Module) -> None:
    """Recompute the magnitude of each DoRA layer from its current weights.

    peft computes the magnitude once, when it adds the adapter in the base model's type. Public API would be an argument
    of `LoraConfig` for the adapter's type.
    """
    layer: Any
    for layer in network.modules():
        for name, dora in getattr(layer, "lora_magnitude_vector", {}).items():
            dora.update_layer(
                base_layer=layer.get_base_layer(),
                lora_A=layer.lora_A[name].weight,
                lora_B=layer.lora_B[name].weight,
                scaling=layer.scaling[name],
            )
