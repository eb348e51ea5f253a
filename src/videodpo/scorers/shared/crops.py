"""Square crops of frames, as CLIP's input, and normalisation of pixels.

Legend: P frames, C channel, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def square_crops(frames_PCHW: torch.Tensor, side: int, *, rounded: bool = False) -> torch.Tensor:
    """Resize and centre-crop uint8 frames to [P, 3, side, side], float32 in 0..1, on the frames' device.

    The shorter side is resized to `side`, bicubic without antialias. Resized values may overshoot 0..1, as in VBench's
    image CLIP.

    Args:
        frames_PCHW: uint8.
        side: side of the crops in pixels.
        rounded: round and clip resized values to 8 bits, as in VBench's ViCLIP.
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


def normalized(pixels_PCHW: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Subtract each channel's mean and divide by its standard deviation; both are in the scale of the pixels."""
    import torch

    mean_C11, std_C11 = (torch.tensor(values, device=pixels_PCHW.device).view(-1, 1, 1) for values in (mean, std))
    return (pixels_PCHW - mean_C11) / std_C11
