"""Bounds of networks that correlate every place of a frame with every place of another.

Places are those of a grid of an eighth of the frame's sides.
"""

from __future__ import annotations

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip

MEMORY = 2**27, 2**32  # bytes of correlations at once: on a CPU, on a GPU
# cuDNN looks up at most so many grids in one call; as many places of a single frame would take 17 GB.
MOST_PLACES = 65535


def pairs_at_once(height: int, width: int, device: str, volumes: int) -> int:
    """Pairs of frames in one batch.

    Args:
        volumes: correlations of all places with all places that a pair needs, each a float32 pyramid.
    """
    places = _num_places(height, width)
    num_bytes = volumes * places**2 * 4 * 4 // 3
    return max(1, min(MEMORY[device != "cpu"] // num_bytes, MOST_PLACES // places))


def refuse_large(clip: Clip) -> None:
    """Raises InputError for frames of more than about four million pixels."""
    height, width = clip.frames_THWC.shape[1:3]
    if _num_places(height, width) > MOST_PLACES:
        raise InputError(f"frames of {width} x {height} are too large to be correlated; at most 4.1 million pixels")


def _num_places(height: int, width: int) -> int:
    return -(-height // 8) * -(-width // 8)
