"""How alike all places of two feature maps are, at several scales, and what lies around given positions there.

RAFT (Teed and Deng 2020, arXiv 2003.12039, section 3.2) and what was built on it.

Legend: B pairs of feature maps, C channel, h, w their size, N channels out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

LEVELS = 4


def correlate(first_BChw: torch.Tensor, second_BChw: torch.Tensor) -> torch.Tensor:
    """Products of all places with all places, over the root of the channels: [B, h w, h w]."""
    volume = torch.einsum("bci,bcj->bij", first_BChw.flatten(2), second_BChw.flatten(2))
    return volume.div_(first_BChw.shape[1] ** 0.5)


def pyramid(volume_Bij: torch.Tensor, height: int, width: int) -> list[torch.Tensor]:
    """For every place i of the first map the second one's, at four scales: [B i, 1, h, w], [B i, 1, h / 2, w / 2] .."""
    levels = [volume_Bij.reshape(-1, 1, height, width)]
    while len(levels) < LEVELS:
        levels.append(F.avg_pool2d(levels[-1], 2, stride=2))
    return levels


def look_around(levels: list[torch.Tensor], position_B2hw: torch.Tensor, radius: int) -> torch.Tensor:
    """Bilinear samples in a window around every place's position (x, y) in the second map, 0 beyond its border.

    Returns:
        [B, N, h, w] with channels last in memory, N = 4 (2 radius + 1)^2: by scale, then x, then y.
    """
    batch, _, height, width = position_B2hw.shape
    steps = torch.arange(-radius, radius + 1, device=position_B2hw.device, dtype=position_B2hw.dtype)
    # The first index of the window moves x, as in RAFT's own code.
    window = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)
    centre = position_B2hw.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    found = []
    for number, level in enumerate(levels):
        # Scaled to -1..1 before they are added: that is one pass over the large sum instead of four.
        scale = 2 / (torch.tensor(level.shape[:-3:-1], device=centre.device, dtype=centre.dtype) - 1)
        place = (centre * (scale / 2**number) - 1) + window * scale
        sampled = F.grid_sample(level, place, mode="bilinear", padding_mode="zeros", align_corners=True)
        found.append(sampled.view(batch, height, width, -1))
    return torch.cat(found, dim=-1).permute(0, 3, 1, 2)
