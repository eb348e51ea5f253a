"""AMT-S for the plain arm of scoring.py: all pairs of places are correlated and looked up as torchvision's RAFT does.

That is how AMT's authors do it too: scales are averages of the whole volume, and every lookup brings all positions to
grid_sample's scale. The rest of the network is the project's own.
"""

from __future__ import annotations

from unittest.mock import patch

import torch
from torchvision.models.optical_flow.raft import CorrBlock

from videodpo.scorers.networks import amt


class PlainAmtS(amt.AmtS):
    """Same weights, same picture but for rounding."""

    def forward(self, first_BCHW: torch.Tensor, second_BCHW: torch.Tensor) -> torch.Tensor:
        with patch.object(amt, "_Correlation", _Correlation):
            return super().forward(first_BCHW, second_BCHW)


class _Correlation(amt._Correlation):
    def __init__(self, first_BChw: torch.Tensor, second_BChw: torch.Tensor) -> None:
        self.coordinates = amt._grid(first_BChw)
        both = (first_BChw, second_BChw), (second_BChw, first_BChw)
        self._pyramids = [_Lookup(*maps) for maps in both]  # type: ignore[misc]


class _Lookup(CorrBlock):
    def __init__(self, first_BChw: torch.Tensor, second_BChw: torch.Tensor) -> None:
        super().__init__(num_levels=amt.LEVELS, radius=amt.RADIUS)
        self.build_pyramid(first_BChw, second_BChw)

    def around(self, position_B2hw: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.index_pyramid(position_B2hw)
        return found
