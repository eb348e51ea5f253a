"""Spatial relationship with direction: left is left and not right, and the two boxes are of the two objects."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from videodpo.scorers.base import Clip
from videodpo.scorers.shared.box_positions import position_score
from videodpo.scorers.shared.grit import Detection
from videodpo.scorers.spatial_relationship import SpatialRelationship


class SpatialRelationshipSigned(SpatialRelationship):
    """As `spatial_relationship`, but `object_a` must be on the named side of `object_b`; 0..1. Not VBench's number."""

    version = "1"

    def best_pair(self, clip: Clip, found: Sequence[Detection]) -> float:
        asked = (clip.info["object_a"], clip.info["object_b"])
        pairs = [(a.box, b.box) for a, b in permutations(found, 2) if (a.name, b.name) == asked]
        return max((position_score(clip.info["relationship"], *pair, signed=True) for pair in pairs), default=0.0)
