"""Layers that other code combines: weights and LoRAs convert alike, also where only some of the modules have a LoRA."""

from __future__ import annotations

import pytest
import torch

from videodpo.config.errors import InputError
from videodpo.tools.adapter.layouts import Layout, Rows
from videodpo.tools.adapter.lora import LoraLayer

WIDTH = 6
LAYOUT = Layout(
    {
        "layers.*.qkv": ("blocks.*.to_q", "blocks.*.to_k", "blocks.*.to_v"),
        "norms.*.1": ("blocks.*.norm1[1/2]", "blocks.*.norm2[0/2]", "blocks.*.norm1[0/2]", "blocks.*.norm2[1/2]"),
        "out": "proj_out",
    }
)
MODULES = ("to_q", "to_k", "to_v", "norm1", "norm2")


@pytest.fixture
def weights():
    torch.manual_seed(0)
    names = [f"blocks.{block}.{module}" for block in (0, 12) for module in MODULES] + ["proj_out"]
    return {f"{name}.weight": torch.randn(2 * WIDTH, WIDTH) for name in names}


def lora(rank):
    return LoraLayer(torch.randn(rank, WIDTH), torch.randn(2 * WIDTH, rank), scale=0.5)


@pytest.mark.parametrize("modules", [MODULES, ("to_k",), ("to_q", "to_v"), ("norm2",)])
def test_a_converted_lora_on_converted_weights_is_the_converted_sum(weights, modules):
    layers = {f"blocks.12.{module}": lora(rank=2 + k) for k, module in enumerate(modules)} | {"proj_out": lora(3)}
    aligned = weights | {f"{name}.weight": layer.added_to(weights[f"{name}.weight"]) for name, layer in layers.items()}
    found = LAYOUT.convert_weights(weights)
    assert found.keys() == {
        f"{name}.weight" for name in ("layers.0.qkv", "layers.12.qkv", "norms.0.1", "norms.12.1", "out")
    }
    for name, layer in LAYOUT.convert_lora(layers).items():
        found[f"{name}.weight"] = layer.added_to(found[f"{name}.weight"])
    for name, expected in LAYOUT.convert_weights(aligned).items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=2e-6, msg=name)


def test_a_single_layer_keeps_its_matrices(weights):
    layer = lora(4)
    assert LAYOUT.convert_lora({"proj_out": layer})["out"] is layer


def test_rows_are_halves_in_their_order():
    assert LAYOUT.locate("blocks.3.norm2") == (
        "norms.3.1",
        (
            Rows("blocks.3.norm1", 1, 2),
            Rows("blocks.3.norm2", 0, 2),
            Rows("blocks.3.norm1", 0, 2),
            Rows("blocks.3.norm2", 1, 2),
        ),
    )


def test_a_layer_without_a_name_is_refused():
    with pytest.raises(InputError, match=r"layer blocks\.0\.extra: this format has no name for it; export as"):
        LAYOUT.convert_lora({"blocks.0.extra": lora(2)})
