"""DINO ViT-B/16 as an encoder for frames of any shape, as in its authors' own code.

Legend: P frames, C channel, H, W pixels; D embedding, L patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.vision_blocks import Block, class_token
from videodpo.scorers.shared.backbone import FrameBackbone, Part
from videodpo.scorers.shared.crops import normalized
from videodpo.weights.checkpoints import load_weights, read_checkpoint

PATCH, SIDE = 16, 224
NARROWEST = 16  # largest aspect ratio; beyond it a frame has tens of thousands of patches


class DinoFrames(FrameBackbone):
    """Class tokens of timm's `vit_base_patch16_224.dino`, normalised to length 1: [D] per frame.

    Frames are resized to a shorter side of 224, bilinear without antialias, and not cropped to squares. Sides are cut
    to multiples of 16, and position embeddings are interpolated as in DINO's code. timm's own forward pass refuses
    other sides, and interpolates positions with antialias, which moves a score by 3e-4.
    """

    def __init__(self, weights: Path, device: str) -> None:
        super().__init__(device, frames_per_batch=4)
        self._network: Any = timm.create_model("vit_base_patch16_224.dino", num_classes=0)
        load_weights(self._network, read_checkpoint(weights), weights)
        self._network.to(device)
        self._blocks = [Block.of_timm(block) for block in self._network.blocks]
        self._network.blocks = torch.nn.Identity()

    def refuse(self, clip: Clip) -> None:
        height, width = clip.frames_THWC.shape[1:3]
        if max(height, width) > NARROWEST * min(height, width):
            raise InputError(f"DINO takes uncropped frames: {width} x {height} is too narrow, at most 1 to {NARROWEST}")

    @torch.no_grad()
    def outputs(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        return list(self.encode(self.frames(parts)).cpu())

    def encode(self, frames_PCHW: torch.Tensor) -> torch.Tensor:
        """Encode uint8 frames to class tokens [P, D] on the device."""
        height, width = frames_PCHW.shape[-2:]
        shorter = min(height, width)
        size = (int(SIDE * height / shorter), int(SIDE * width / shorter))
        pixels = F.interpolate(frames_PCHW.float(), size, mode="bilinear", antialias=False) / 255
        rows, columns = (side // PATCH for side in size)
        pixels = pixels[..., : rows * PATCH, : columns * PATCH]
        network = self._network
        pixels = normalized(pixels, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        patches_PLD = network.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([network.cls_token.expand(len(pixels), -1, -1), patches_PLD], dim=1)
        found = class_token(tokens.add_(self._positions(*size)), self._blocks)
        return F.normalize(network.norm(found), dim=-1)

    def _positions(self, height: int, width: int) -> torch.Tensor:
        known: torch.Tensor = self._network.pos_embed
        # Test the size before the cut to multiples of 16: sides of 225 to 239 also give 14 patches, but interpolate.
        if height == width == SIDE:
            return known
        side, rows, columns = SIDE // PATCH, height // PATCH, width // PATCH
        grid = known[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
        # The published code adds 0.1 so that rounding does not lose a row, and uses this scale for sampling.
        scale = ((rows + 0.1) / side, (columns + 0.1) / side)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([known[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
