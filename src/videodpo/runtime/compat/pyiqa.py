"""Network and input preprocessing of pyiqa's MUSIQ. Works with pyiqa 0.1.16.

`pyiqa.create_metric("musiq-spaq")` is public, but it downloads weights by itself. It also pads the smaller scales with
masked patches, which costs time. Public API would be the network's class.
"""

from __future__ import annotations

from pyiqa.archs.musiq_arch import MUSIQ, StdConv
from pyiqa.data.multiscale_trans_util import get_hashed_spatial_pos_emb_index, resize_preserve_aspect_ratio

__all__ = ["MUSIQ", "StdConv", "get_hashed_spatial_pos_emb_index", "resize_preserve_aspect_ratio"]
