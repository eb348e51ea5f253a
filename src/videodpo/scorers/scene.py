"""Scene, as VBench defines it: whether captions by Tag2Text name the scene that the prompt asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from videodpo.scorers.base import Clip
from videodpo.scorers.shared.scene import SceneScorer, share_with_scene

NUM_CAPTIONS = 16
REPEATS = 3


class Scene(SceneScorer):
    """Share of 16 captions that contain every word of the scene.

    In VBench, caption j describes frame j // 3 of the 16 frames, the middles of equal intervals: a beam search of three
    beams repeats the frames once too often. So only the first six frames count, the sixth of them a third as much. The
    same is done here. `scene_all_frames` looks at all frames.
    """

    version = "1"

    def wanted(self, clip: Clip, outputs: Mapping[int, list[str]]) -> Iterable[int]:
        return [0]

    def value(self, clip: Clip, outputs: Mapping[int, list[str]]) -> float:
        captions = outputs[0]
        last = len(captions) - 1  # a clip of fewer than six frames repeats its last one
        return share_with_scene(clip, [captions[min(number // REPEATS, last)] for number in range(NUM_CAPTIONS)])
