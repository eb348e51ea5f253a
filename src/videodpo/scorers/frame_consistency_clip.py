"""Subject and background consistency by an open_clip model. VBench asks DINO and OpenAI's CLIP ViT-B/32 instead.

Legend: T frames, C channel, H height, W width, D embedding; h, w patches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from videodpo.scorers.base import Clip
from videodpo.scorers.open_clip_backbone import OpenClipScorer

if TYPE_CHECKING:
    import numpy as np
    import torch

_STILL_WEIGHT = 0.02  # of a patch whose pixels never change; 5 of 255 grey levels count twice as much


class BackgroundConsistencyClip(OpenClipScorer):
    """How alike the frames' image embeddings are, 0..1: the pooled embedding, which the whole frame shapes.

    For i >= 1 the average of max(0, cos(i, i - 1)) and max(0, cos(i, 0)); the mean over i. This is VBench's
    formula and preprocessing with another network. A one-frame clip raises ValueError.
    """

    version = "1"

    def score(self, clip: Clip) -> float:
        return consistency(self._clip.image_features(self._clip.crops(at_least_two(clip))))


class SubjectConsistencyClip(OpenClipScorer):
    """The same for what moves: patch features averaged with weights that follow how much each patch's pixels change.

    The weights (range of the pixels over time, so the lane in which the subject moves) are the clip's, not the
    frame's: else a frame would differ for its weights alone. Where nothing changes, all patches count alike.
    Range 0..1; a one-frame clip raises ValueError.
    """

    version = "1"

    def score(self, clip: Clip) -> float:
        crops_TCHW = self._clip.crops(at_least_two(clip))
        patches_TDhw = self._clip.patch_features(crops_TCHW)
        weights_hw = _change(crops_TCHW, (patches_TDhw.shape[2], patches_TDhw.shape[3]))
        features_TD = (patches_TDhw * weights_hw).sum(dim=(2, 3)) / weights_hw.sum()
        return consistency(features_TD / features_TD.norm(dim=1, keepdim=True))


def consistency(features_TD: torch.Tensor) -> float:
    """VBench's formula on L2-normalised features [T, D] of at least 2 frames."""
    previous = (features_TD[1:] * features_TD[:-1]).sum(dim=1).clamp(min=0)
    first = (features_TD[1:] * features_TD[:1]).sum(dim=1).clamp(min=0)
    return float(((previous + first) / 2).double().mean())


def _change(crops_TCHW: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    import torch.nn.functional as F

    spread_HW = (crops_TCHW.amax(dim=0) - crops_TCHW.amin(dim=0)).mean(dim=0)
    return F.adaptive_avg_pool2d(spread_HW[None], grid)[0] + _STILL_WEIGHT


def at_least_two(clip: Clip) -> np.ndarray:
    if len(clip.frames_THWC) < 2:
        raise ValueError("consistency needs at least 2 frames, the clip has 1")
    return clip.frames_THWC
