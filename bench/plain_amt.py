"""AMT-S for the plain arm of scoring.py: all pairs of places are correlated and looked up as torchvision's RAFT does.

AMT's authors do it in the same way, scales as averages of the whole volume and every position scaled at every lookup,
but that they turn one volume over for the other direction, where this multiplies twice. The rest is the project's own.
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
        self._pyramids = [_Lookup(first_BChw, second_BChw), _Lookup(second_BChw, first_BChw)]


class _Lookup(CorrBlock):
    def __init__(self, first_BChw: torch.Tensor, second_BChw: torch.Tensor) -> None:
        super().__init__(num_levels=amt.LEVELS, radius=amt.RADIUS)
        self.build_pyramid(first_BChw, second_BChw)

    def around(self, position_B2hw: torch.Tensor) -> torch.Tensor:
        return self.index_pyramid(position_B2hw)
