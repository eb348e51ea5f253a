"""Subject consistency by an open_clip model. VBench uses DINO instead.

Legend: T frames, C channel, H, W pixels; D embedding; h, w patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from videodpo.config import Section
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.consistency import ConsistencyScorer
from videodpo.scorers.shared.open_clip_frames import FrameFeatures, OpenClipScorer

if TYPE_CHECKING:
    import torch

_STILL_WEIGHT = 0.02  # of a patch whose pixels never change; a change by 5 of 255 grey levels doubles the weight


class SubjectConsistencyClip(ConsistencyScorer, OpenClipScorer):
    """Similarity of the frames where something moves, by VBench's formula on weighted means of patch features; 0..1.

    The weight of a patch is the range of its pixels over time, which is large along the subject's path. All frames of a
    clip share the weights, because frames with separate weights would differ by the weights alone. If nothing changes,
    all patches count equally. A one-frame clip is refused.
    """

    version = "2"

    def __init__(self, options: Section, device: str) -> None:
        super().__init__(options, device)
        self._clip.keeps_patches = True

    def embeddings(self, clip: Clip, outputs: Mapping[int, FrameFeatures]) -> list[torch.Tensor]:
        import torch

        patches = [outputs[number].patches_Ehw for number in range(len(clip.frames_THWC))]
        patches_TDhw = torch.stack([one for one in patches if one is not None])
        crops_TCHW = self._clip.crops(clip.pixels("cpu"))
        weights_hw = _change(crops_TCHW, (patches_TDhw.shape[2], patches_TDhw.shape[3]))
        features_TD = (patches_TDhw * weights_hw).sum(dim=(2, 3)) / weights_hw.sum()
        return list(features_TD / features_TD.norm(dim=1, keepdim=True))


def _change(crops_TCHW: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    import torch.nn.functional as F

    spread_HW = (crops_TCHW.amax(dim=0) - crops_TCHW.amin(dim=0)).mean(dim=0)
    return F.adaptive_avg_pool2d(spread_HW[None], grid)[0] + _STILL_WEIGHT
