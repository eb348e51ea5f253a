"""RAFT large from torchvision's modules, with the authors' published weights.

Legend: F frames, P pairs of frames, C channel, H, W pixels; h, w at an eighth of the size.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.utils import fuse_conv_bn_eval
from torchvision.models.optical_flow import raft_large
from torchvision.ops import Conv2dNormActivation

from videodpo.runtime.compat.torchvision import make_coords_grid, upsample_flow
from videodpo.scorers.networks.all_pairs import CorrelationPyramid
from videodpo.weights.checkpoints import load_weights, read_checkpoint

RADIUS = 4
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
    """Optical flow of many pairs of frames, without repeated computation.

    The arithmetic is that of torchvision's `raft_large`, with four changes. A frame is encoded once for all its pairs.
    For coarser correlations, features are averaged instead of correlations. The context's share of the recurrent
    convolutions is computed once instead of at every update. Only the last flow is upsampled to full size. In float32,
    flows differ by 1e-5 pixels.
    """

    def __init__(self, weights: Path, device: str) -> None:
        """Load the network.

        Args:
            weights: `raft-things.pth`, or a file with torchvision's own names.
            device: name of the torch device.
        """
        tensors = read_checkpoint(weights)
        if any(name.startswith("fnet.") for name in tensors):
            # norm3 duplicates the norm of `downsample`.
            tensors = {_torchvision_name(name): value for name, value in tensors.items() if ".norm3." not in name}
        network: Any = raft_large(weights=None)
        load_weights(network, tensors, weights)
        self.network = network.eval().to(device, memory_format=torch.channels_last)
        # With channels last, instance norms would permute the channels back and forth.
        network.feature_encoder.to(memory_format=torch.contiguous_format)
        _fold_norms(network.context_encoder)
        block = network.update_block.recurrent_block
        self._units = [_GatedUnit(unit) for unit in (block.convgru1, block.convgru2)]

    @torch.no_grad()
    def flow(self, frames_FCHW: torch.Tensor, pairs: Sequence[tuple[int, int]], num_updates: int) -> torch.Tensor:
        """Compute flow [P, (x, y), H, W] in pixels, from the first to the second frame of every pair.

        Args:
            frames_FCHW: frames in -1..1; sides are multiples of 8 and at least 128.
            pairs: indices of the two frames of each pair.
            num_updates: number of recurrent updates.
        """
        network, block = self.network, self.network.update_block
        first, second = ([pair[k] for pair in pairs] for k in range(2))
        features = self._by_parts(network.feature_encoder, frames_FCHW)
        height, width = features.shape[-2:]
        pyramid = CorrelationPyramid(features[first], features[second], RADIUS)
        sources = sorted(set(first))
        looking = frames_FCHW[sources].contiguous(memory_format=torch.channels_last)
        contexts = self._by_parts(network.context_encoder, looking)
        contexts = contexts[[sources.index(frame) for frame in first]]
        state = _State(contexts, self._units)
        start = make_coords_grid(len(pairs), height, width, device=str(contexts.device))
        flow = torch.zeros_like(start)
        for _ in range(num_updates):
            motion = block.motion_encoder(flow, pyramid.around(start + flow))
            flow = flow + block.flow_head(state.updated(motion))
        full: torch.Tensor = upsample_flow(flow=flow, up_mask=network.mask_predictor(state.hidden).contiguous())
        return full

    def _by_parts(self, encoder: Any, frames_FCHW: torch.Tensor) -> torch.Tensor:
        """Encode frame by frame on a CPU: glibc gives every tensor above 32 MB fresh pages, which is slow."""
        if frames_FCHW.device.type != "cpu":
            found: torch.Tensor = encoder(frames_FCHW)
            return found
        return torch.cat([encoder(frames_FCHW[k : k + 1]) for k in range(len(frames_FCHW))])


class _State:
    """Hidden state and motion in one buffer, because the recurrent convolutions read both together."""

    def __init__(self, contexts_PChw: torch.Tensor, units: Sequence[_GatedUnit]) -> None:
        num_hidden = units[0].num_hidden
        context = F.relu(contexts_PChw[:, num_hidden:])
        self._units = [(unit, unit.constants(context)) for unit in units]
        # Results are written directly to the input of the next convolution, so 20 updates need no concatenation.
        self._both = torch.empty_like(contexts_PChw, memory_format=torch.channels_last)
        self._first, self._motion = self._both[:, :num_hidden], self._both[:, num_hidden:]
        self.hidden = torch.tanh(contexts_PChw[:, :num_hidden])

    def updated(self, motion_PChw: torch.Tensor) -> torch.Tensor:
        """Update the hidden state by one motion and return it."""
        self._motion.copy_(motion_PChw)
        for unit, constants in self._units:
            self._first.copy_(self.hidden)
            update, reset = unit.gates(self._both, constants)
            torch.mul(reset, self.hidden, out=self._first)
            self.hidden = torch.lerp(self.hidden, unit.new(self._both, constants), update)
        return self.hidden


class _GatedUnit:
    """Convolutional GRU with a constant context. Convolutions are linear, so the context's share is computed once."""

    def __init__(self, unit: Any) -> None:
        gates = [unit.convz, unit.convr]
        self.num_hidden = hidden = unit.convq.out_channels
        weight, bias = (torch.cat([getattr(gate, name) for gate in gates]) for name in ("weight", "bias"))
        self._padding = unit.convq.padding
        self._gates, self._gates_context = _without_context(weight, hidden), weight[:, hidden : 2 * hidden]
        weight = unit.convq.weight
        self._new, self._new_context = _without_context(weight, hidden), weight[:, hidden : 2 * hidden]
        self._biases = bias, unit.convq.bias

    def constants(self, context_PChw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the context's share of the gates and of the new state."""
        weights = (self._gates_context, self._new_context)
        gates, new = (
            F.conv2d(context_PChw, weight, bias, padding=self._padding)
            for weight, bias in zip(weights, self._biases, strict=True)
        )
        return gates, new

    def gates(self, both_PChw: torch.Tensor, constants: tuple[torch.Tensor, torch.Tensor]) -> Sequence[torch.Tensor]:
        """Return the update and reset gates, from hidden state and motion."""
        found = F.conv2d(both_PChw, self._gates, padding=self._padding)
        return found.add_(constants[0]).sigmoid_().chunk(2, dim=1)

    def new(self, both_PChw: torch.Tensor, constants: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return the candidate state, from the reset hidden state and motion."""
        return F.conv2d(both_PChw, self._new, padding=self._padding).add_(constants[1]).tanh_()


def _without_context(weight: torch.Tensor, hidden: int) -> torch.Tensor:
    """Drop the context from the input channels (hidden state, context, motion)."""
    return torch.cat([weight[:, :hidden], weight[:, 2 * hidden :]], dim=1)


def _fold_norms(encoder: Any) -> None:
    """Fold batch norms in eval mode into the preceding convolutions."""
    for part in encoder.modules():
        if isinstance(part, Conv2dNormActivation) and isinstance(part[1], torch.nn.BatchNorm2d):
            part[0] = fuse_conv_bn_eval(part[0], part[1])
            part[1] = torch.nn.Identity()


def _torchvision_name(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
