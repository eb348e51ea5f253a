"""VBench's formula for the similarity of a clip's frames.

Legend: D embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import NetworkScorer

if TYPE_CHECKING:
    import torch


def consistency(frames_D: Sequence[torch.Tensor]) -> float:
    """Mean over frames i >= 1 of the average of max(0, cos(i, i - 1)) and max(0, cos(i, 0)); 0..1.

    Args:
        frames_D: embeddings [D] of length 1, one per frame, at least two.
    """
    import torch

    features_TD = torch.stack(list(frames_D))
    previous = (features_TD[1:] * features_TD[:-1]).sum(dim=1).clamp(min=0)
    first = (features_TD[1:] * features_TD[:1]).sum(dim=1).clamp(min=0)
    return float(((previous + first) / 2).double().mean())


class ConsistencyScorer(NetworkScorer):
    """Similarity of all frames by their embeddings; 0..1. A clip with only one frame is refused."""

    embeds_frames = True

    def refuse(self, clip: Clip) -> None:
        if len(clip.frames_THWC) < 2:
            raise InputError("consistency needs at least 2 frames, the clip has 1")

    def embeddings(self, clip: Clip, outputs: Mapping[int, Any]) -> list[torch.Tensor]:
        """Return the embedding [D] of every frame, of length 1: by default, the backbone's outputs themselves."""
        return [outputs[number] for number in range(len(clip.frames_THWC))]

    def value(self, clip: Clip, outputs: Mapping[int, Any]) -> float:
        return consistency(self.embeddings(clip, outputs))
