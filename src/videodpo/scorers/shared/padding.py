"""Padding of frames to sides that a network accepts.

Legend: T frames, C channel, H, W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def pad_to_multiples(frames_TCHW: torch.Tensor, multiple: int) -> tuple[torch.Tensor, tuple[int, int]]:
    """Pad frames to multiples by repeating the border, half on each side (the odd line below and to the right).

    Returns:
        Padded frames, and the number of rows above and of columns left of the original frame.
    """
    import torch.nn.functional as F

    more_y, more_x = (-side % multiple for side in frames_TCHW.shape[-2:])
    top, left = more_y // 2, more_x // 2
    return F.pad(frames_TCHW, (left, more_x - left, top, more_y - top), mode="replicate"), (top, left)
