"""The few frames that stand for a clip."""

from __future__ import annotations

from itertools import pairwise

NUM_FRAMES = 8


def middle_frames(num_frames: int) -> list[int]:
    """Numbers of 8 frames: the middles of 8 equal intervals; of a shorter clip all, the last one repeated."""
    if num_frames < NUM_FRAMES:
        return [min(number, num_frames - 1) for number in range(NUM_FRAMES)]
    edges = [number * num_frames // NUM_FRAMES for number in range(NUM_FRAMES + 1)]
    return [(start + stop - 1) // 2 for start, stop in pairwise(edges)]
