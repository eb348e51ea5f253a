"""Limits of networks that correlate every position of a frame with every position of another.

Positions form a grid of 1/8 of the frame's sides.
"""

from __future__ import annotations

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip

MEMORY = 2**27, 2**32  # bytes of correlations per batch: on a CPU, on a GPU
# Maximum number of grids that cuDNN samples in one call. For a single frame, this many positions would take 17 GB.
MOST_PLACES = 65535


def pairs_at_once(height: int, width: int, device: str, volumes: int) -> int:
    """Return the number of pairs of frames per batch.

    Args:
        volumes: number of all-pairs correlations per pair of frames, each a float32 pyramid.
    """
    places = _num_places(height, width)
    num_bytes = volumes * places**2 * 4 * 4 // 3
    return max(1, min(MEMORY[device != "cpu"] // num_bytes, MOST_PLACES // places))


def refuse_large(clip: Clip) -> None:
    """Raise InputError for frames of more than about four million pixels."""
    height, width = clip.frames_THWC.shape[1:3]
    if _num_places(height, width) > MOST_PLACES:
        raise InputError(f"frames of {width} x {height} are too large to be correlated; at most 4.1 million pixels")


def _num_places(height: int, width: int) -> int:
    return -(-height // 8) * -(-width // 8)
