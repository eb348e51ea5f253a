"""Float32 products by two bfloat16 per number, emulated without the GPU's matrix units."""

from __future__ import annotations

import re

import pytest
import torch

from videodpo.config.errors import RunError
from videodpo.scorers.networks import products
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
def test_two_bfloat16_meet_the_error_bound_and_one_does_not(layer, matrix_units, outputs):
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
def test_nan_and_infinity_stay(layer, matrix_units, spoiled):
    inputs = torch.ones(2, WIDTH)
    inputs[1, 5] = spoiled
    found = Linear(layer.weight, layer.bias)(split(inputs))
    assert found[0].isfinite().all()
    assert not found[1].isfinite().any()


def without_bias(bias, a, b, out_dtype):
    return a.to(out_dtype) @ b.to(out_dtype)


def with_rounded_bias(bias, a, b, out_dtype):
    return without_bias(bias, a, b, out_dtype) + bias.to(a.dtype)


def refusing(bias, a, b, out_dtype):
    raise RuntimeError("bias must be bfloat16")


@pytest.mark.parametrize(
    ("addmm", "message"),
    [(without_bias, "is off by 2 in"), (with_rounded_bias, "is off by 0.004 in"), (refusing, "refuses .*must be bf")],
)
def test_a_torch_that_does_not_take_the_bias_is_refused(layer, matrix_units, monkeypatch, addmm, message):
    monkeypatch.setattr(torch, "addmm", addmm)
    products._check_bias.cache_clear()
    with pytest.raises(RunError, match=f"torch {re.escape(torch.__version__)} {message}"):
        Linear(layer.weight, layer.bias)


@torch.no_grad()
def test_numbers_are_not_split_on_a_cpu(layer):
    inputs = torch.randn(*SHAPE, WIDTH)
    assert split(inputs) is inputs
    assert torch.equal(Linear(layer.weight, layer.bias)(inputs), layer(inputs))
