"""Number and size of the frames that a judge sees."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def frames_at_rate(total: int, clip_fps: float, rate: float, fewest: int, most: int) -> list[int]:
    """Return frame numbers at `rate` per second: an even count from `fewest` to `most`, with first and last frame.

    This is the rule of qwen-vl-utils, whose networks take frames in pairs. A clip with fewer than `fewest` frames uses
    all of them, or all but one if their number is odd.

    Args:
        total: frames of the clip.
        clip_fps: frame rate of the clip.
        rate: wanted frames per second.
        fewest: minimum number of frames.
        most: maximum number of frames.
    """
    wanted = min(max(total / clip_fps * rate, fewest), most, total)
    return spaced_frames(total, max(1, int(wanted) // 2 * 2))


def spaced_frames(total: int, wanted: int) -> list[int]:
    """Return `wanted` equally spaced frame numbers from first to last; a shorter clip uses all."""
    count = min(wanted, total)
    return [round(number * (total - 1) / (count - 1)) for number in range(count)] if count > 1 else [total // 2]


def frames_at_starts(total: int, wanted: int) -> list[int]:
    """Return the first frames of `wanted` equal intervals; a shorter clip repeats frames."""
    return [number * total // wanted for number in range(wanted)]


def fit_pixels(frames_THWC: np.ndarray, max_pixels: int | None) -> np.ndarray:
    """Scale uint8 frames down to at most `max_pixels` pixels each, bicubic with antialias in 8 bits."""
    height, width = frames_THWC.shape[1:3]
    if max_pixels is None or height * width <= max_pixels:
        return frames_THWC
    import torch
    import torch.nn.functional as F

    scale = math.sqrt(max_pixels / (height * width))
    size = max(1, int(height * scale)), max(1, int(width * scale))
    frames_TCHW = torch.from_numpy(frames_THWC).permute(0, 3, 1, 2)
    found: np.ndarray = F.interpolate(frames_TCHW, size, mode="bicubic", antialias=True).permute(0, 2, 3, 1).numpy()
    return found
