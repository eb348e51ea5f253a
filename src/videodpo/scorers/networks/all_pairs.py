"""How alike all places of two feature maps are, at several scales, and what lies around given positions there.

RAFT's correlation (Teed and Deng 2020, arXiv 2003.12039, section 3.2), for it and for what was built on it.

Legend: B pairs of feature maps, C channel, h, w their size, i a place of the first, N channels out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

LEVELS = 4


class Pyramid:
    """For every place of the first map its correlations with the second, at four scales, each half of the one before.

    A correlation is the product of two places' channels over the root of their number.
    """

    def __init__(self, first_BChw: torch.Tensor, second_BChw: torch.Tensor, radius: int) -> None:
        """radius: of the windows that are looked at."""
        steps = torch.arange(-radius, radius + 1, device=first_BChw.device, dtype=first_BChw.dtype)
        # The first index of a window moves x, as in RAFT's own code.
        window = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)
        places_BiC = (first_BChw / first_BChw.shape[1] ** 0.5).flatten(2).transpose(1, 2)
        # A level with the scale that brings its positions (x, y) to 0..2, and the window on that scale.
        self._levels = []
        map_BChw = second_BChw
        for number in range(LEVELS):
            # A mean of products with a place is its product with the mean: the map is averaged, not what is far larger.
            map_BChw = F.avg_pool2d(map_BChw, 2, stride=2) if number else map_BChw
            level = (places_BiC @ map_BChw.flatten(2)).view(-1, 1, *map_BChw.shape[-2:])
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
            index = (centre * (scale / 2**number) - 1) + window
            sampled = F.grid_sample(level, index, mode="bilinear", padding_mode="zeros", align_corners=True)
            found.append(sampled.view(batch, height, width, -1))
        return torch.cat(found, dim=-1).permute(0, 3, 1, 2)


def _scaled(window: torch.Tensor, level: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = 2 / (torch.tensor(level.shape[:-3:-1], device=level.device, dtype=level.dtype) - 1)
    return scale, window * scale
