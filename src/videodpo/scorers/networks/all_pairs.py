"""All-pairs correlation of two feature maps at several scales, and lookup around given positions.

This is RAFT's correlation (Teed and Deng 2020, arXiv 2003.12039, section 3.2), also used by networks built on RAFT.

Legend: B pairs of feature maps, C channel, h, w their size, i a position in the first map, N channels out.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

LEVELS = 4


class CorrelationPyramid:
    """Correlations of every position of the first map with the second map, at four scales, each half the previous one.

    A correlation is the dot product of two positions' channels, divided by the root of the number of channels.
    """

    def __init__(self, first_BChw: torch.Tensor, second_BChw: torch.Tensor, radius: int) -> None:
        """Compute the correlations.

        Args:
            first_BChw: features of the first frame.
            second_BChw: features of the second frame.
            radius: radius of the lookup windows, in positions.
        """
        steps = torch.arange(-radius, radius + 1, device=first_BChw.device, dtype=first_BChw.dtype)
        # The first axis of a window is x, as in RAFT's own code.
        window = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)
        first_BiC = (first_BChw / first_BChw.shape[1] ** 0.5).flatten(2).transpose(1, 2)
        # For each level: correlations, the factor that maps positions (x, y) to 0..2, and the window times this factor.
        self._levels = []
        map_BChw = second_BChw
        for number in range(LEVELS):
            # The product is linear, so the map can be averaged instead of the much larger correlations.
            map_BChw = F.avg_pool2d(map_BChw, 2, stride=2) if number else map_BChw
            level = (first_BiC @ map_BChw.flatten(2)).view(-1, 1, *map_BChw.shape[-2:])
            scale = 2 / (torch.tensor(level.shape[:-3:-1], device=level.device, dtype=level.dtype) - 1)
            self._levels.append((level, scale, window * scale))

    def around(self, position_B2hw: torch.Tensor) -> torch.Tensor:
        """Sample correlations bilinearly around each target position (x, y) in the second map; 0 beyond its border.

        Returns:
            [B, N, h, w] with channels last in memory, N = 4 (2 radius + 1)^2, ordered by scale, then x, then y.
        """
        batch, _, height, width = position_B2hw.shape
        centre = position_B2hw.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
        found = []
        for number, (level, scale, window) in enumerate(self._levels):
            # Convert both to grid_sample's scale before the sum: one pass over the large tensor instead of four.
            index = (centre * (scale / 2**number) - 1) + window
            sampled = F.grid_sample(level, index, mode="bilinear", padding_mode="zeros", align_corners=True)
            found.append(sampled.view(batch, height, width, -1))
        return torch.cat(found, dim=-1).permute(0, 3, 1, 2)
