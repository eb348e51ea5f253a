"""Float32 products of two bfloat16 for each number, computed here without the matrix units that they are for."""

from __future__ import annotations

import pytest
import torch

from videodpo.scorers.networks.products import Linear, split

SHAPE, WIDTH, CHANNELS = (3, 7), 256, 48


@pytest.fixture
def layer() -> torch.nn.Linear:
    torch.manual_seed(0)
    return torch.nn.Linear(WIDTH, CHANNELS)


def relative_error(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@torch.no_grad()
@pytest.mark.parametrize("outputs", [slice(None), slice(16), slice(16, None)])
def test_two_bfloat16_hold_the_bound_that_one_misses(layer, matrix_units, outputs):
    inputs = 10 * torch.randn(*SHAPE, WIDTH)
    exact = torch.nn.functional.linear(inputs.double(), layer.weight.double(), layer.bias.double())[..., outputs]
    parts = split(inputs)
    assert parts.dtype == torch.bfloat16
    assert parts.shape == (*SHAPE, 3 * WIDTH)
    found = Linear(layer.weight, layer.bias)(parts, outputs)
    assert found.dtype == torch.float32
    assert relative_error(found, exact) < 1e-5
    rounded = torch.nn.functional.linear(inputs.bfloat16().double(), layer.weight.double(), layer.bias.double())
    assert relative_error(rounded[..., outputs], exact) > 1e-4


@torch.no_grad()
@pytest.mark.parametrize("spoiled", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(layer, matrix_units, spoiled):
    inputs = torch.ones(2, WIDTH)
    inputs[1, 5] = spoiled
    found = Linear(layer.weight, layer.bias)(split(inputs))
    assert found[0].isfinite().all()
    assert not found[1].isfinite().any()


@torch.no_grad()
def test_on_a_cpu_nothing_is_split(layer):
    inputs = torch.randn(*SHAPE, WIDTH)
    assert split(inputs) is inputs
    assert torch.equal(Linear(layer.weight, layer.bias)(inputs), layer(inputs))
