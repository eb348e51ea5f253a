"""Choose a few frames that represent an entire clip."""

from __future__ import annotations

from itertools import pairwise

NUM_FRAMES = 8


def middle_frames(num_frames: int, wanted: int = NUM_FRAMES) -> list[int]:
    """Return the middles of `wanted` equal intervals of frames; a shorter clip uses all, the last one repeated."""
    if num_frames < wanted:
        return [min(number, num_frames - 1) for number in range(wanted)]
    edges = [number * num_frames // wanted for number in range(wanted + 1)]
    return [(start + stop - 1) // 2 for start, stop in pairwise(edges)]


def distinct_frames(num_frames: int, wanted: int | None) -> list[int]:
    """Return the numbers of `middle_frames`, each once; None returns all frames."""
    return list(range(num_frames)) if wanted is None else sorted(set(middle_frames(num_frames, wanted)))
