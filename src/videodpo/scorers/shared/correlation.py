"""Limits of networks that correlate every position of a frame with every position of another.

Positions form a grid of 1/8 of the frame's sides.
"""

from __future__ import annotations

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip

MEMORY = 2**27, 2**32  # bytes of correlations per batch: on a CPU, on a GPU
# Maximum number of grids that cuDNN samples in one call. A pair of frames of this many positions takes 17 GB.
MOST_POSITIONS = 65535


def pairs_per_batch(height: int, width: int, device: str, volumes: int) -> int:
    """Return the number of pairs of frames per batch.

    Args:
        volumes: number of all-pairs correlations per pair of frames, each a float32 pyramid.
    """
    positions = _num_positions(height, width)
    num_bytes = volumes * positions**2 * 4 * 4 // 3
    return max(1, min(MEMORY[device != "cpu"] // num_bytes, MOST_POSITIONS // positions))


def refuse_large(clip: Clip) -> None:
    """Raise InputError for frames of more than about four million pixels."""
    height, width = clip.frames_THWC.shape[1:3]
    if _num_positions(height, width) > MOST_POSITIONS:
        raise InputError(f"frames of {width} x {height} are too large to be correlated; at most 4.1 million pixels")


def _num_positions(height: int, width: int) -> int:
    return -(-height // 8) * -(-width // 8)
