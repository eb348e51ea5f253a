"""Errors of the frames that AMT-S interpolates.

Legend: P pairs of frames, C channel, H, W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.networks.amt import AmtS
from videodpo.scorers.shared.backbone import Backbone, Part
from videodpo.scorers.shared.correlation import pairs_per_batch, refuse_large
from videodpo.scorers.shared.padding import pad_to_multiples
from videodpo.weights.checkpoints import load_weights, read_checkpoint

MULTIPLE = 16
SMALLEST = 113  # below, AMT's coarsest correlation has one row or column, and its authors' code divides by 0


class InterpolationErrors(Backbone):
    """Part k is the mean absolute error, 0..255, of frame 2 k + 1 interpolated from frames 2 k and 2 k + 2."""

    tf32 = True  # with random weights, TF32 changed scores by at most 1e-5

    def __init__(self, weights: Path, device: str) -> None:
        self._network = AmtS()
        load_weights(self._network, read_checkpoint(weights), weights)
        self._network.to(device)
        self._device = device

    def batch_size(self, height: int, width: int) -> int:
        return pairs_per_batch(height, width, self._device, volumes=2)

    def refuse(self, clip: Clip) -> None:
        refuse_large(clip)
        height, width = clip.frames_THWC.shape[1:3]
        if min(height, width) < SMALLEST:
            raise InputError(f"AMT needs sides of at least {SMALLEST} pixels, the clip has {width} x {height}")

    def num_parts(self, clip: Clip) -> int:
        return (len(clip.frames_THWC) - 1) // 2

    def outputs(self, parts: Sequence[Part]) -> list[float]:
        height, width = parts[0][0].frames_THWC.shape[1:3]
        before, true, after = (
            torch.stack([clip.pixels(self._device)[2 * number + step] for clip, number in parts]) for step in range(3)
        )
        padded, (top, left) = pad_to_multiples(torch.cat([before, after]).float() / 255, MULTIPLE)
        with torch.no_grad():
            drawn_PCHW = self._network(*padded.chunk(2))[..., top : top + height, left : left + width]
        # VBench truncates frames to 8 bits without rounding. Sums of integers are exact.
        difference = ((drawn_PCHW * 255).to(torch.uint8).int() - true.int()).abs().flatten(1).sum(dim=1)
        if not drawn_PCHW.isfinite().all():  # the cast to 8 bits would hide this
            raise InputError("AMT drew a frame that is not finite")
        return [total / true[0].numel() for total in difference.tolist()]
