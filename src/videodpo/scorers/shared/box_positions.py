"""Relative position of two boxes in a frame, for spatial_relationship."""

from __future__ import annotations

RELATIONSHIPS = {  # axis (0 to the right, 1 downwards), and the sign of the offset from the first object to the second
    "on the left of": (0, 1),
    "on the right of": (0, -1),
    "on the top of": (1, 1),
    "on the bottom of": (1, -1),
}
TOLERATED = 0.1  # overlap of two objects

Box = tuple[int, int, int, int]


def position_score(relationship: str, first: Box, second: Box, *, signed: bool) -> float:
    """Return how well two boxes agree with a relationship: 1 if they do, less if they overlap, 0 if they do not.

    Args:
        relationship: one of `RELATIONSHIPS`.
        first, second: boxes of the two objects.
        signed: False accepts the opposite relationship too.
    """
    axis, sign = RELATIONSHIPS[relationship]
    # Twice the offset between the centres: integers, so that equal distances compare as equal.
    offset = [second[k] + second[k + 2] - first[k] - first[k + 2] for k in range(2)]
    along = sign * offset[axis] if signed else abs(offset[axis])
    if along <= abs(offset[1 - axis]):
        return 0.0
    overlap = intersection_over_union(first, second)
    return 1.0 if overlap < TOLERATED else TOLERATED / overlap


def intersection_over_union(first: Box, second: Box) -> float:
    """Return the intersection of two boxes over their union; 0 for two boxes without area (VBench divides by 0)."""
    width, height = (max(0, min(first[k + 2], second[k + 2]) - max(first[k], second[k])) for k in range(2))
    common = width * height
    union = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)) - common
    return common / union if union else 0.0
