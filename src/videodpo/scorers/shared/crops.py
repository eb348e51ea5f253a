"""Square crops of frames, as CLIP's input.

Legend: P frames, C channel, H, W pixels.
"""

from __future__ import annotations

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
