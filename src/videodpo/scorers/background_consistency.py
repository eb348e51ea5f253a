"""Background consistency, as VBench defines it: similarity of all frames' CLIP ViT-B/32 image embeddings."""

from __future__ import annotations

from videodpo.config import Section
from videodpo.runtime.device import choose_device
from videodpo.scorers.shared.clip_b32 import ClipB32Scorer
from videodpo.scorers.shared.consistency import ConsistencyScorer
from videodpo.scorers.shared.file_weights import file_of


class BackgroundConsistency(ConsistencyScorer, ClipB32Scorer):
    """Mean over frames i >= 1 of the average of max(0, cos(i, i - 1)) and max(0, cos(i, 0)); 0..1.

    Weights: OpenAI's `ViT-B-32.pt`. A one-frame clip is refused.
    """

    version = "3"

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.clip import ClipFrames

        self.backbone = ClipFrames.shared(self.architecture, file_of(options), choose_device(device))
