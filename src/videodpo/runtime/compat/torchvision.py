"""Arithmetic of torchvision's RAFT, which is in a private module. Works with torchvision 0.29.2.

`raft_large` is public, but it encodes a frame again for each pair. Public API would be these two functions.
"""

from __future__ import annotations

from torchvision.models.optical_flow._utils import make_coords_grid, upsample_flow

__all__ = ["make_coords_grid", "upsample_flow"]
