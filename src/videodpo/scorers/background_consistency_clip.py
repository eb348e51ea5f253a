"""Background consistency by an open_clip model. VBench uses OpenAI's CLIP ViT-B/32 instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from videodpo.scorers.base import Clip
from videodpo.scorers.shared.consistency import ConsistencyScorer
from videodpo.scorers.shared.open_clip_frames import FrameFeatures, OpenClipScorer

if TYPE_CHECKING:
    import torch


class BackgroundConsistencyClip(ConsistencyScorer, OpenClipScorer):
    """Similarity of the frames' pooled image embeddings, which represent the entire frame; 0..1.

    Mean over frames i >= 1 of the average of max(0, cos(i, i - 1)) and max(0, cos(i, 0)). Formula and preprocessing are
    VBench's; the network is another one. A one-frame clip is refused.
    """

    version = "2"

    def embeddings(self, clip: Clip, outputs: Mapping[int, FrameFeatures]) -> list[torch.Tensor]:
        return [outputs[number].image_D for number in range(len(clip.frames_THWC))]
