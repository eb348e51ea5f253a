"""Multiple objects, as VBench defines it: how often GRiT sees both of the prompt's objects."""

from __future__ import annotations

from collections.abc import Sequence

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.grit import Detection, GritScorer

BETWEEN = " and "


class MultipleObjects(GritScorer):
    """Share of 16 frames with both objects that the clip's info names as `object`, for example "cat and dog"; 0..1."""

    version = "1"
    needs = ("object",)

    def refuse(self, clip: Clip) -> None:
        super().refuse(clip)
        if clip.info["object"].count(BETWEEN) != 1:
            raise InputError(f"object is {clip.info['object']!r}; multiple_objects needs two, like 'cat and dog'")

    def score_frames(self, clip: Clip, frames: Sequence[Sequence[Detection]]) -> float:
        asked = {name.strip() for name in clip.info["object"].split(BETWEEN)}
        return sum(asked <= {one.name for one in found} for found in frames) / len(frames)
