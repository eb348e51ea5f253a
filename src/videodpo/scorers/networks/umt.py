"""UMT ViT-L/16 (arXiv 2303.16058), fine-tuned to recognise actions, with the authors' published weights.

Legend: P clips, T frames per clip, C channel, H, W pixels; L tokens, D width.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.beit import Block as BeitBlock
from torch import nn

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.vision_blocks import Block, all_tokens
from videodpo.scorers.shared.backbone import ClipBackbone, Part
from videodpo.scorers.shared.crops import normalized
from videodpo.scorers.shared.human_actions import named_action
from videodpo.scorers.shared.middle_frames import middle_frames
from videodpo.weights.checkpoints import load_weights, read_checkpoint

NUM_FRAMES, SIDE, PATCH = 16, 224, 16
GRID = SIDE // PATCH
RESIZED_SHORTER_SIDE = 256  # side before the crop
PRETRAINED_FRAMES = 8


class UmtActions(ClipBackbone):
    """Probability of each action by itself (a sigmoid), from 16 frames. A clip has one part.

    A clip whose prompt names none of the actions is refused, so that clips of other dimensions cost nothing.

    Attributes:
        sizes: sizes of the network, where they are not those of ViT-L.
    """

    sizes: ClassVar[Mapping[str, int]] = {}

    def __init__(self, weights: Path, device: str, actions: tuple[str, ...]) -> None:
        super().__init__(device, clips_per_batch=8)
        self._actions = actions
        network = Umt(len(actions), **self.sizes)
        tensors = read_checkpoint(weights)
        tensors.setdefault("pos_embed", default_positions(network.head.in_features))
        load_weights(network, tensors, weights)
        self._network = network.to(device)
        self._blocks = [Block.of_beit(block) for block in network.blocks]
        # The blocks hold the weights now; on a GPU in another form.
        network.blocks = nn.ModuleList()

    def refuse(self, clip: Clip) -> None:
        if (action := named_action(clip.prompt)) not in self._actions:
            known = f"the {len(self._actions)} actions, like 'A person is {self._actions[0]}'"
            raise InputError(f"human_action needs a prompt that names one of {known}; {action!r} is none of them")

    @torch.no_grad()
    def outputs(self, parts: Sequence[Part]) -> list[torch.Tensor]:
        frames = [clip.frames_THWC[middle_frames(len(clip.frames_THWC), NUM_FRAMES)] for clip, _ in parts]
        inputs = torch.stack([crops(each) for each in frames]).to(self.device)
        probabilities = self.logits(self.features(inputs)).sigmoid().cpu()
        if not probabilities.isfinite().all():
            raise InputError("UMT's output is not finite")
        return list(probabilities)

    def features(self, crops_PCTHW: torch.Tensor) -> torch.Tensor:
        """Return the normed mean of all tokens, [P, D]."""
        network = self._network
        states_PLD = network.patch_embed["proj"](crops_PCTHW).flatten(2).transpose(1, 2) + network.pos_embed
        features: torch.Tensor = network.fc_norm(all_tokens(states_PLD, self._blocks).mean(dim=1))
        return features

    def logits(self, features_PD: torch.Tensor) -> torch.Tensor:
        """Return the logit of each action, [P, number of actions]."""
        logits: torch.Tensor = self._network.head(features_PD)
        return logits


class Umt(nn.Module):
    """Holds the weights under the names of the published file."""

    def __init__(self, num_actions: int, width: int = 1024, depth: int = 24, num_heads: int = 16) -> None:
        super().__init__()
        norm = functools.partial(nn.LayerNorm, eps=1e-6)
        size = (1, PATCH, PATCH)
        self.pos_embed = nn.Parameter(torch.zeros(1, NUM_FRAMES * GRID**2, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv3d(3, width, size, stride=size)})
        self.blocks = nn.ModuleList(BeitBlock(width, num_heads, qkv_bias=True, norm_layer=norm) for _ in range(depth))
        self.fc_norm = norm(width)
        self.head = nn.Linear(width, num_actions)


def crops(frames_THWC: np.ndarray) -> torch.Tensor:
    """Resize uint8 frames to a shorter side of 256, bilinear in 8 bits, and crop and normalise them: [C, T, H, W]."""
    height, width = frames_THWC.shape[1:3]
    shorter = min(height, width)
    size = (RESIZED_SHORTER_SIDE * height // shorter, RESIZED_SHORTER_SIDE * width // shorter)
    top, left = (round((side - SIDE) / 2) for side in size)
    cropped = np.empty((len(frames_THWC), SIDE, SIDE, 3), np.uint8)
    for frame, crop in zip(frames_THWC, cropped, strict=True):
        resized = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR)
        crop[:] = resized[top : top + SIDE, left : left + SIDE]
    cropped_TCHW = torch.from_numpy(cropped).permute(0, 3, 1, 2) / 255
    return normalized(cropped_TCHW, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD).transpose(0, 1)


def default_positions(width: int) -> torch.Tensor:
    """Position embeddings [1, L, D] of a file without any: sinusoids for 8 frames, interpolated linearly to 16."""
    positions = torch.arange(PRETRAINED_FRAMES * GRID**2, dtype=torch.float64)
    channels = torch.arange(width, dtype=torch.float64)
    angles_LD = positions[:, None] / torch.pow(10000.0, (channels - channels % 2) / width)
    table_LD = torch.where(channels % 2 == 0, angles_LD.sin(), angles_LD.cos()).float()
    by_frame = table_LD.view(1, PRETRAINED_FRAMES, -1).transpose(1, 2)
    return F.interpolate(by_frame, NUM_FRAMES, mode="linear").transpose(1, 2).reshape(1, -1, width)
