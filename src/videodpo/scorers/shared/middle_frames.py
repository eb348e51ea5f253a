"""The few frames that stand for a clip."""

from __future__ import annotations

from itertools import pairwise

NUM_FRAMES = 8


def middle_frames(num_frames: int, wanted: int = NUM_FRAMES) -> list[int]:
    """Numbers of `wanted` frames: the middles of as many equal intervals; of a shorter clip all, the last repeated."""
    if num_frames < wanted:
        return [min(number, num_frames - 1) for number in range(wanted)]
    edges = [number * num_frames // wanted for number in range(wanted + 1)]
    return [(start + stop - 1) // 2 for start, stop in pairwise(edges)]
