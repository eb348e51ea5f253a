"""MUSIQ (Ke et al. 2021, arXiv 2108.05997) on pyiqa's network: scores of images of the same size, and of frames.

Legend: P images, C channel, H, W pixels; L patches per image, N patches in total, S side of a patch, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from videodpo.config.errors import InputError
from videodpo.runtime.compat.pyiqa import (
    MUSIQ,
    StdConv,
    get_hashed_spatial_pos_emb_index,
    resize_preserve_aspect_ratio,
)
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.vision_blocks import Block, class_token
from videodpo.scorers.shared.backbone import FrameBackbone, Part
from videodpo.weights.checkpoints import load_weights, read_checkpoint

LONGEST = 512  # pixels of a frame's longer side


class Musiq:
    """The same arithmetic as pyiqa's, without the masked patches with which pyiqa pads smaller scales."""

    def __init__(self, weights: Path, device: str) -> None:
        network = MUSIQ(pretrained=False)
        load_weights(network, read_checkpoint(weights), weights)
        self._network = network.to(device).eval()
        options = network.data_preprocess_opts
        self._side, self._grid = options["patch_size"], options["hse_grid_size"]
        self.lengths = sorted(options["longer_side_lengths"])
        """Longer sides of the smaller scales, in pixels."""
        self._blocks = [Block.of_musiq(block) for block in network.transformer_encoder.transformer.values()]
        network.transformer_encoder.transformer = torch.nn.ModuleDict()  # so that the weights are not held twice
        for name, layer in list(network.block1.named_children()):
            if isinstance(layer, StdConv):
                setattr(network.block1, name, _standardized(layer))

    @torch.no_grad()
    def scores(self, pictures_PCHW: torch.Tensor) -> torch.Tensor:
        """Score images in 0..1; returns scores in 0..100, [P]."""
        network, encoder = self._network, self._network.transformer_encoder
        patches, marks = [], []
        for number, scaled in enumerate(self._scales(pictures_PCHW * 2 - 1)):
            found = self._patches(scaled)
            patches.append(found)
            rows, columns = (-(-side // self._side) for side in scaled.shape[-2:])
            indices = get_hashed_spatial_pos_emb_index(self._grid, rows, columns)[0].long().to(found.device)
            marks.append(encoder.posembed_input.position_emb[0, indices] + encoder.scaleembed_input.scale_emb[number])
        patches_PLCSS = torch.cat(patches, dim=1)
        x = self._features(patches_PLCSS.flatten(0, 1)).permute(0, 2, 3, 1).reshape(*patches_PLCSS.shape[:2], -1)
        states_PLD = network.embedding(x) + torch.cat(marks)
        states_PLD = torch.cat([encoder.cls.expand(len(states_PLD), -1, -1), states_PLD], dim=1)
        found = class_token(states_PLD, self._blocks)
        scores: torch.Tensor = network.head(encoder.encoder_norm(found))[:, 0]
        return scores

    def _features(self, patches_NCSS: torch.Tensor) -> torch.Tensor:
        """Return features of the patches, [N, channels, S / 4, S / 4]."""
        network = self._network
        x = network.gn_root(network.conv_root(patches_NCSS)).relu_()
        # pyiqa pads a row and a column of zeros at the end. `ceil_mode` gives the same maxima, because a ReLU has no
        # negative outputs. With channels last, a CPU is ten times as fast.
        x = F.max_pool2d(x.contiguous(memory_format=torch.channels_last), 3, stride=2, ceil_mode=True)
        found: torch.Tensor = network.block1(x.contiguous())
        return found

    def _scales(self, pictures_PCHW: torch.Tensor) -> list[torch.Tensor]:
        size = pictures_PCHW.shape[-2:]
        return [resize_preserve_aspect_ratio(pictures_PCHW, *size, length)[0] for length in self.lengths] + [
            pictures_PCHW
        ]

    def _patches(self, pictures_PCHW: torch.Tensor) -> torch.Tensor:
        """Cut images into patches [P, L, C, S, S], row by row, zero-padded on both sides (odd line at the end)."""
        side = self._side
        lacking = [-length % side for length in pictures_PCHW.shape[:-3:-1]]
        padded = F.pad(pictures_PCHW, [part for lack in lacking for part in (lack // 2, lack - lack // 2)])
        batch, channels, height, width = padded.shape
        tiles = padded.view(batch, channels, height // side, side, width // side, side)
        return tiles.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def _standardized(layer: StdConv) -> torch.nn.Conv2d:
    """Return a plain convolution with standardized weights; pyiqa standardizes them at every call."""
    weight = layer.weight.detach()
    weight = weight - weight.mean((1, 2, 3), keepdim=True)
    made = torch.nn.Conv2d(
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, padding="same", bias=False
    )
    made.weight = torch.nn.Parameter(weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), requires_grad=False)
    return made


class MusiqFrames(FrameBackbone):
    """MUSIQ's score of every frame, 0..100.

    Frames with a longer side above 512 are scaled down to it, bilinear without antialias.
    """

    def __init__(self, weights: Path, device: str) -> None:
        super().__init__(device, frames_per_batch=1)
        self._musiq = Musiq(weights, device)

    def refuse(self, clip: Clip) -> None:
        height, width = clip.frames_THWC.shape[1:3]
        seen = _seen_size(height, width)
        if not all(round(min(seen) * (length / max(seen))) for length in self._musiq.lengths):
            raise InputError(
                f"MUSIQ resizes frames to {self._musiq.lengths[0]} pixels: {width} x {height} is too narrow"
            )

    def outputs(self, parts: Sequence[Part]) -> list[float]:
        frames = self.frames(parts).float()
        height, width = frames.shape[-2:]
        if (seen := _seen_size(height, width)) != (height, width):
            frames = F.interpolate(frames, seen, mode="bilinear", antialias=False)
        scores: list[float] = self._musiq.scores(frames / 255).tolist()
        return scores


def _seen_size(height: int, width: int) -> tuple[int, int]:
    longer = max(height, width)
    if longer <= LONGEST:
        return height, width
    scale = LONGEST / longer  # rounding of the quotient makes some sizes one pixel smaller, as in VBench
    return int(scale * height), int(scale * width)
