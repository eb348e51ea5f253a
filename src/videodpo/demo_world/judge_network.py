"""Judge: a small 3D convolutional network that classifies what a clip of the demo world shows.

Legend: B batch, C channel, T frame, H height, W width.
"""

from __future__ import annotations

import torch
from torch import nn

from videodpo.demo_world.captions import BACKGROUNDS, COLORS, MOTIONS, SHAPES, Scene

NOTHING = "none"  # other_shape and other_color of a scene with one object
STILL = "still"  # motion of a clip in which nothing moves
ANSWERS: dict[str, tuple[str, ...]] = {
    "shape": SHAPES,
    "color": COLORS,
    "motion": (*MOTIONS, STILL),
    "background": BACKGROUNDS,
    "other_shape": (*SHAPES, NOTHING),
    "other_color": (*COLORS, NOTHING),
}


class JudgeNetwork(nn.Module):
    """Maps clips [B, 3, T, H, W], RGB in [-1, 1], to logits for each attribute of `ANSWERS`.

    Designed for clips of 9 x 32 x 32; 203,000 parameters. Group norm keeps no statistics, so that a clip's answer does
    not depend on the other clips of its batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(3, 16, (1, 2, 2)),
            *_block(16, 32, (2, 2, 2)),
            *_block(32, 64, (2, 1, 1)),
            *_block(64, 64, (2, 2, 2)),
        )
        self.hidden = nn.Sequential(nn.Linear(128, 128), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(128, len(values)) for name, values in ANSWERS.items()})

    def forward(self, clips_BCTHW: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.features(clips_BCTHW).flatten(2)
        # The mean keeps features that fill the frame; the maximum keeps objects, which cover only a few cells.
        hidden = self.hidden(torch.cat([features.mean(dim=2), features.amax(dim=2)], dim=1))
        return {name: head(hidden) for name, head in self.heads.items()}


def answers(scene: Scene) -> dict[str, str]:
    """Correct answer for every attribute of a moving scene."""
    return {name: getattr(scene, name) or NOTHING for name in ANSWERS}


def _block(channels_in: int, channels_out: int, stride: tuple[int, int, int]) -> list[nn.Module]:
    return [
        nn.Conv3d(channels_in, channels_out, kernel_size=3, stride=stride, padding=1),
        nn.GroupNorm(8, channels_out),
        nn.SiLU(),
    ]
