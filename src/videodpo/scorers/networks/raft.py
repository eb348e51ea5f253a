"""RAFT large, from torchvision's parts, with the weights that its authors publish.

Legend: F frames, P pairs of frames, C channel, H, W pixels; h, w at an eighth of the size.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torchvision.models.optical_flow import raft_large
from torchvision.models.optical_flow._utils import make_coords_grid, upsample_flow

from videodpo.weights.checkpoints import load_weights, read_checkpoint

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


class Raft:
    """Optical flow of many pairs of frames, with what they share computed once.

    Same arithmetic as torchvision's `raft_large`, arranged otherwise: a frame is encoded once for all its pairs, the
    context's share of the recurrent convolutions is computed once instead of at every update, and only the last flow is
    brought to full size. Flows differ by 1e-5 pixels.
    """

    def __init__(self, weights: Path, device: str) -> None:
        """weights: `raft-things.pth`, or a file with torchvision's own names."""
        tensors = read_checkpoint(weights)
        if any(name.startswith("fnet.") for name in tensors):
            # norm3 is the norm of `downsample`, stored a second time.
            tensors = {_torchvision_name(name): value for name, value in tensors.items() if ".norm3." not in name}
        network: Any = raft_large(weights=None)
        load_weights(network, tensors, weights)
        self.network = network.to(device)
        block = network.update_block.recurrent_block
        self._units = [_GatedUnit(unit) for unit in (block.convgru1, block.convgru2)]

    @torch.no_grad()
    def flow(self, frames_FCHW: torch.Tensor, pairs: Sequence[tuple[int, int]], num_updates: int) -> torch.Tensor:
        """Flow [P, (x, y), H, W] in pixels, from the first to the second frame of every pair.

        Args:
            frames_FCHW: on the scale -1..1, sides multiples of 8 and at least 128. pairs: numbers of frames.
        """
        network, block = self.network, self.network.update_block
        first, second = ([pair[k] for pair in pairs] for k in range(2))
        features = network.feature_encoder(frames_FCHW)
        network.corr_block.build_pyramid(features[first], features[second])
        hidden_size = block.hidden_state_size
        sources = sorted(set(first))
        contexts = network.context_encoder(frames_FCHW[sources])[[sources.index(frame) for frame in first]]
        hidden, context = torch.tanh(contexts[:, :hidden_size]), F.relu(contexts[:, hidden_size:])
        constants = [unit.constants(context) for unit in self._units]
        start = make_coords_grid(len(pairs), *hidden.shape[-2:], device=str(hidden.device))
        flow = torch.zeros_like(start)
        for _ in range(num_updates):
            motion = block.motion_encoder(flow, network.corr_block.index_pyramid(centroids_coords=start + flow))
            for unit, constant in zip(self._units, constants, strict=True):
                hidden = unit(hidden, motion, constant)
            flow = flow + block.flow_head(hidden)
        full: torch.Tensor = upsample_flow(flow=flow, up_mask=network.mask_predictor(hidden))
        return full


class _GatedUnit:
    """A convolutional GRU whose input is a constant context and a motion that changes; convolutions are linear."""

    def __init__(self, unit: Any) -> None:
        gates = [unit.convz, unit.convr]
        hidden = unit.convq.out_channels
        weight, bias = (torch.cat([getattr(gate, name) for gate in gates]) for name in ("weight", "bias"))
        self._padding = unit.convq.padding
        self._gates, self._gates_context = _without_context(weight, hidden), weight[:, hidden : 2 * hidden]
        weight = unit.convq.weight
        self._new, self._new_context = _without_context(weight, hidden), weight[:, hidden : 2 * hidden]
        self._biases = bias, unit.convq.bias

    def constants(self, context_PChw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        weights = (self._gates_context, self._new_context)
        gates, new = (
            F.conv2d(context_PChw, weight, bias, padding=self._padding)
            for weight, bias in zip(weights, self._biases, strict=True)
        )
        return gates, new

    def __call__(
        self, hidden: torch.Tensor, motion: torch.Tensor, constants: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        both = torch.cat([hidden, motion], dim=1)
        gates = F.conv2d(both, self._gates, padding=self._padding).add_(constants[0]).sigmoid_()
        update, reset = gates.chunk(2, dim=1)
        both = torch.cat([reset * hidden, motion], dim=1)
        new = F.conv2d(both, self._new, padding=self._padding).add_(constants[1]).tanh_()
        return torch.lerp(hidden, new, update)


def _without_context(weight: torch.Tensor, hidden: int) -> torch.Tensor:
    """Of the input channels (hidden state, context, motion) the first and the last."""
    return torch.cat([weight[:, :hidden], weight[:, 2 * hidden :]], dim=1)


def _torchvision_name(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
