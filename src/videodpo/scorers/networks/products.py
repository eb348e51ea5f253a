"""Float32 matrix products on a GPU's matrix units, which multiply bfloat16 many times faster than float32.

Legend: R rows, I channels in, O channels out.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from videodpo.config.errors import RunError

ALL = slice(None)
_BIAS = "bfloat16 products with a float32 bias"
_REMEDY = "install a version that computes them, for example 2.11, or score on a CPU (`device: cpu`)"


class Linear:
    """Same as `torch.nn.Linear`, for inputs from `split`.

    Where `split` splits inputs into high and low parts, the weights are split too. Of the four products of these parts,
    the three that matter are computed as one product of three times the length, summed in float32: high by low, low by
    high, and high by high. That is why `split` repeats the high part of the inputs. The relative error is 5e-6; that of
    float32 is 4e-7, that of bfloat16 is 2e-3.
    """

    def __init__(self, weight_OI: torch.Tensor, bias_O: torch.Tensor) -> None:
        """Keep a reference to the weights; on a GPU with matrix units, make a copy of 1.5 times the size instead."""
        self._weight, self._bias_O = weight_OI.detach(), bias_O.detach()
        self._splits = has_matrix_units(weight_OI.device)
        if self._splits:
            _check_bias(weight_OI.device)
            high, low = _high_and_low(self._weight)
            # These multiply the inputs' high, low and high parts. Small products first: rounding grows with the sum.
            self._weight = torch.cat([low, high, high], dim=1)

    def __call__(self, inputs: torch.Tensor, outputs: slice = ALL) -> torch.Tensor:
        """Return float32 [..., O], or the channels `outputs` of it; `inputs` is `split` of [..., I]."""
        weight, bias = self._weight[outputs], self._bias_O[outputs]
        if not self._splits:
            return F.linear(inputs, weight, bias)
        found_RO = _product(bias, inputs.flatten(0, -2), weight)
        return found_RO.view(*inputs.shape[:-1], -1)


def split(inputs: torch.Tensor) -> torch.Tensor:
    """Convert float32 [..., I] for `Linear`: unchanged, or its high, low and high parts, bfloat16 [..., 3 I]."""
    if not has_matrix_units(inputs.device):
        return inputs
    parts = torch.empty(*inputs.shape[:-1], 3, inputs.shape[-1], dtype=torch.bfloat16, device=inputs.device)
    high, low, again = parts.unbind(dim=-2)
    high.copy_(inputs)
    again.copy_(high)
    torch.sub(inputs, high, out=low)
    return parts.flatten(-2)


def _product(bias_O: torch.Tensor, inputs_RI: torch.Tensor, weight_OI: torch.Tensor) -> torch.Tensor:
    return torch.addmm(bias_O, inputs_RI, weight_OI.t(), out_dtype=torch.float32)


@functools.cache
def _check_bias(device: torch.device) -> None:
    """Compare a small product with float64: versions of torch differ in whether they take a float32 bias here.

    Raises:
        RunError: torch refuses the bias, rounds it or leaves it out.
    """
    inputs_RI, weight_OI = (torch.linspace(-1, 1, 32 * n, device=device).bfloat16().view(n, 32) for n in (16, 48))
    bias_O = torch.linspace(1, 2, 48, device=device)
    exact_RO = inputs_RI.double() @ weight_OI.double().t() + bias_O.double()
    try:
        error = float((_product(bias_O, inputs_RI, weight_OI) - exact_RO).abs().max())
    except RuntimeError as refusal:
        raise RunError(f"torch {torch.__version__} refuses {_BIAS}: {refusal}; {_REMEDY}") from refusal
    if not error < 1e-4:
        raise RunError(f"torch {torch.__version__} is off by {error:.1g} in {_BIAS}; {_REMEDY}")


def _high_and_low(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Split into two bfloat16 whose sum has 16 of the 24 bits of a float32."""
    high = weight.to(torch.bfloat16)
    return high, (weight - high).to(torch.bfloat16)


@functools.cache
def has_matrix_units(device: torch.device) -> bool:
    """Return True if bfloat16 products with float32 sums are faster than float32: on NVIDIA GPUs since Ampere."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)
