"""VBench's formula for how alike the frames of a clip are.

Legend: D embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip

if TYPE_CHECKING:
    import torch


def consistency(frames_D: Sequence[torch.Tensor]) -> float:
    """For i >= 1 the average of max(0, cos(i, i - 1)) and max(0, cos(i, 0)), the mean over i; 0..1.

    Args:
        frames_D: an embedding [D] of length 1 for every frame, two or more.
    """
    import torch

    features_TD = torch.stack(list(frames_D))
    previous = (features_TD[1:] * features_TD[:-1]).sum(dim=1).clamp(min=0)
    first = (features_TD[1:] * features_TD[:1]).sum(dim=1).clamp(min=0)
    return float(((previous + first) / 2).double().mean())


def refuse_one_frame(clip: Clip) -> None:
    """Raises InputError for a clip that has no second frame to be compared with."""
    if len(clip.frames_THWC) < 2:
        raise InputError("consistency needs at least 2 frames, the clip has 1")
