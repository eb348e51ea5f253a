"""Float32 matrix products on a GPU's matrix units, which multiply bfloat16 at many times the rate of float32.

Legend: R rows, I channels in, O channels out.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

ALL = slice(None)


class Linear:
    """What `torch.nn.Linear` does, of inputs that went through `split`.

    Where `split` takes numbers apart, so are the weights: of the four products of high and low parts the three that
    matter are one product of three times the length, summed in float32. Relative error 5e-6, where float32's own is
    4e-7 and bfloat16's 2e-3.
    """

    def __init__(self, weight_OI: torch.Tensor, bias_O: torch.Tensor) -> None:
        """The weights are used where they are; on a GPU with matrix units, copied at one and a half times the size."""
        self._weight, self._bias_O = weight_OI.detach(), bias_O.detach()
        self._splits = has_matrix_units(weight_OI.device)
        if self._splits:
            high, low = _high_and_low(self._weight)
            # Against the inputs' high, low and high. Small products first: a sum is cut at the size that it has.
            self._weight = torch.cat([low, high, high], dim=1)

    def __call__(self, inputs: torch.Tensor, outputs: slice = ALL) -> torch.Tensor:
        """Float32 [..., O], or some of the channels; `inputs` is what `split` made of [..., I]."""
        weight, bias = self._weight[outputs], self._bias_O[outputs]
        if not self._splits:
            return F.linear(inputs, weight, bias)
        found_RO = torch.addmm(bias, inputs.flatten(0, -2), weight.t(), out_dtype=torch.float32)
        return found_RO.view(*inputs.shape[:-1], -1)


def split(inputs: torch.Tensor) -> torch.Tensor:
    """Float32 [..., I] as `Linear` takes it: itself, or its high, low and high parts, bfloat16 [..., 3 I]."""
    if not has_matrix_units(inputs.device):
        return inputs
    parts = torch.empty(*inputs.shape[:-1], 3, inputs.shape[-1], dtype=torch.bfloat16, device=inputs.device)
    high, low, again = parts.unbind(dim=-2)
    high.copy_(inputs)
    again.copy_(high)
    torch.sub(inputs, high, out=low)
    return parts.flatten(-2)


def _high_and_low(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Two bfloat16 whose sum has 16 of the 24 bits of a float32."""
    high = weight.to(torch.bfloat16)
    return high, (weight - high).to(torch.bfloat16)


@functools.cache
def has_matrix_units(device: torch.device) -> bool:
    """Whether products of bfloat16 are summed in float32 at a multiple of float32's rate: NVIDIA's from Ampere on."""
    return device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) >= (8, 0)
