"""Scene by Tag2Text, as VBench means it: every sampled frame counts once."""

from __future__ import annotations

from collections.abc import Mapping

from videodpo.scorers.base import Clip
from videodpo.scorers.shared.scene import SceneScorer, share_with_scene


class SceneAllFrames(SceneScorer):
    """Share of 16 frames, the middles of equal intervals, whose caption contains every word of the scene.

    A shorter clip uses all frames, each once.
    """

    version = "1"

    def value(self, clip: Clip, outputs: Mapping[int, list[str]]) -> float:
        return share_with_scene(clip, [caption for part in sorted(outputs) for caption in outputs[part]])
