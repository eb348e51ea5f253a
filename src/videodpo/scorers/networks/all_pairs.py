"""How alike all places of two feature maps are, at several scales, and what lies around given positions there.

RAFT's correlation (Teed and Deng 2020, arXiv 2003.12039, section 3.2), for it and for what was built on it.

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


class Pyramid:
    """For every place of the first map the second one's correlations, at four scales, each half of the one before."""

    def __init__(self, volume_Bij: torch.Tensor, height: int, width: int, radius: int) -> None:
        """height, width: of both maps. radius: of the windows that are looked at."""
        steps = torch.arange(-radius, radius + 1, device=volume_Bij.device, dtype=volume_Bij.dtype)
        # The first index of a window moves x, as in RAFT's own code.
        window = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)
        level = volume_Bij.reshape(-1, 1, height, width)
        # A level with the scale that brings its positions (x, y) to 0..2, and the window on that scale.
        self._levels = [(level, *_scaled(window, level))]
        while len(self._levels) < LEVELS:
            level = F.avg_pool2d(level, 2, stride=2)
            self._levels.append((level, *_scaled(window, level)))

    def around(self, position_B2hw: torch.Tensor) -> torch.Tensor:
        """Bilinear samples around every place's position (x, y) in the second map, 0 beyond its border.

        Returns:
            [B, N, h, w] with channels last in memory, N = 4 (2 radius + 1)^2: by scale, then x, then y.
        """
        batch, _, height, width = position_B2hw.shape
        centre = position_B2hw.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
        found = []
        for number, (level, scale, window) in enumerate(self._levels):
            # Both are on grid_sample's scale before they are added: one pass over the large sum instead of four.
            place = (centre * (scale / 2**number) - 1) + window
            sampled = F.grid_sample(level, place, mode="bilinear", padding_mode="zeros", align_corners=True)
            found.append(sampled.view(batch, height, width, -1))
        return torch.cat(found, dim=-1).permute(0, 3, 1, 2)


def _scaled(window: torch.Tensor, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = 2 / (torch.tensor(level.shape[:-3:-1], device=level.device, dtype=level.dtype) - 1)
    return scale, window * scale
