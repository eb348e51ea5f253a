"""AMT-S for the plain arm of scoring.py: all-pairs correlation with lookups, as in torchvision's RAFT.

AMT's authors also average the entire correlation volume for the coarser scales and rescale every position at every
lookup. For the other direction, they transpose the volume; this module computes a second one. Everything else is the
project's own network.
"""

from __future__ import annotations

from unittest.mock import patch

import torch
from torchvision.models.optical_flow.raft import CorrBlock

from videodpo.runtime.compat.torchvision import make_coords_grid
from videodpo.scorers.networks import amt
from videodpo.scorers.networks.all_pairs import LEVELS


class PlainAmtS(amt.AmtS):
    """Same weights, and the same frame up to rounding."""

    def forward(self, first_BCHW: torch.Tensor, second_BCHW: torch.Tensor) -> torch.Tensor:
        with patch.object(amt, "_Correlation", _Correlation):
            return super().forward(first_BCHW, second_BCHW)


class _Correlation(amt._Correlation):
    def __init__(self, first_BChw: torch.Tensor, second_BChw: torch.Tensor) -> None:
        self.coordinates = make_coords_grid(1, *first_BChw.shape[-2:], device=str(first_BChw.device))
        self._pyramids = [_Lookup(first_BChw, second_BChw), _Lookup(second_BChw, first_BChw)]


class _Lookup(CorrBlock):
    def __init__(self, first_BChw: torch.Tensor, second_BChw: torch.Tensor) -> None:
        super().__init__(num_levels=LEVELS, radius=amt.RADIUS)
        self.build_pyramid(first_BChw, second_BChw)

    def around(self, position_B2hw: torch.Tensor) -> torch.Tensor:
        return self.index_pyramid(position_B2hw)
