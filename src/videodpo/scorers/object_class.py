"""Object class, as VBench defines it: how often GRiT sees the prompt's object."""

from __future__ import annotations

from collections.abc import Sequence

from videodpo.scorers.base import Clip
from videodpo.scorers.shared.grit import Detection, GritScorer


class ObjectClass(GritScorer):
    """Share of 16 frames in which an object has exactly the name that the clip's info gives as `object`; 0..1."""

    version = "1"
    needs = ("object",)

    def score_frames(self, clip: Clip, frames: Sequence[Sequence[Detection]]) -> float:
        return sum(any(one.name == clip.info["object"] for one in found) for found in frames) / len(frames)
