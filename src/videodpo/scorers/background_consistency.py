"""Background consistency, as VBench defines it: CLIP ViT-B/32's image embeddings of all frames."""

from __future__ import annotations

from typing import ClassVar

from videodpo.config import Section
from videodpo.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.file_weights import FileWeightsScorer, file_of
from videodpo.scorers.frame_consistency_clip import at_least_two, consistency
from videodpo.scorers.open_clip_backbone import square_crops


class BackgroundConsistency(FileWeightsScorer):
    """For i >= 1 the average of max(0, cos(i, i - 1)) and max(0, cos(i, 0)), the mean over i; 0..1.

    Weights: OpenAI's `ViT-B-32.pt`. A one-frame clip raises ValueError.
    """

    version = "1"
    architecture: ClassVar[str] = "ViT-B-32"

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.clip import ClipFrames

        self._clip = ClipFrames(self.architecture, file_of(options), choose_device(device))

    def score(self, clip: Clip) -> float:
        from videodpo.scorers.networks.clip import SIDE

        return consistency(self._clip(square_crops(at_least_two(clip), SIDE)))
