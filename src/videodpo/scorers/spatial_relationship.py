"""Spatial relationship, as VBench defines it: how well the positions of GRiT's boxes agree with the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.box_positions import RELATIONSHIPS, position_score
from videodpo.scorers.shared.grit import Detection, GritScorer


class SpatialRelationship(GritScorer):
    """Mean over 16 frames of the best pair of boxes; 0..1. The clip's info names the objects and their relationship.

    A pair counts fully if its centres are further apart along the relationship's axis than across it, and less if the
    boxes overlap by more than 0.1. As in VBench, left counts as right and top as bottom, and two boxes of the same
    object are a pair too. `spatial_relationship_signed` does not have these two faults.
    """

    version = "1"
    needs = ("object_a", "object_b", "relationship")

    def refuse(self, clip: Clip) -> None:
        super().refuse(clip)
        if (relationship := clip.info["relationship"]) not in RELATIONSHIPS:
            raise InputError(f"relationship is {relationship!r}; it must be one of {', '.join(RELATIONSHIPS)}")

    def score_frames(self, clip: Clip, frames: Sequence[Sequence[Detection]]) -> float:
        return sum(self.best_pair(clip, found) for found in frames) / len(frames)

    def best_pair(self, clip: Clip, found: Sequence[Detection]) -> float:
        """Return the score of the best pair of boxes in a frame."""
        asked = {clip.info["object_a"], clip.info["object_b"]}
        pairs = combinations([one.box for one in found if one.name in asked], 2)
        return max((position_score(clip.info["relationship"], *pair, signed=False) for pair in pairs), default=0.0)
