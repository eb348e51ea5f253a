"""Frames to the squares that CLIP looks at.

Legend: P frames, C channel, H, W pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def square_crops(frames_PCHW: torch.Tensor, side: int, *, rounded: bool = False) -> torch.Tensor:
    """The middle square of every uint8 frame: [P, 3, side, side], float32 on the scale 0..1, on the frames' device.

    Shorter side to `side`, bicubic without antialias, then the centre. Resized values may overshoot the scale, as in
    VBench's image CLIP; `rounded` brings them back to 8 bits, as in its ViCLIP.
    """
    import torch.nn.functional as F

    height, width = frames_PCHW.shape[-2:]
    shorter = min(height, width)
    size = (side * height // shorter, side * width // shorter)
    top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
    frames = frames_PCHW.float()
    if (height, width) != size:
        frames = F.interpolate(frames, size, mode="bicubic", antialias=False)
    frames = frames[:, :, top : top + side, left : left + side]
    return (frames.round().clamp(0, 255) if rounded else frames) / 255
