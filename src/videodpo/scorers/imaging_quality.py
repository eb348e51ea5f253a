"""Imaging quality, as VBench defines it: MUSIQ trained on SPAQ, frame by frame.

Legend: P frames, C channel, H, W pixels; L patches, X what is known of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from videodpo.config import Section
from videodpo.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import FrameBackbone, Part
from videodpo.scorers.shared.file_weights import FileWeightsScorer, file_of

LONGEST = 512


class MusiqFrames(FrameBackbone):
    """MUSIQ's score, 0..100, of every frame.

    One whose longer side exceeds 512 is brought to it, bilinear without antialias.
    """

    def __init__(self, weights: Path, device: str) -> None:
        from pyiqa.archs.musiq_arch import MUSIQ

        from videodpo.weights.checkpoints import load_weights, read_checkpoint

        super().__init__(device, frames_at_once=2)
        self._network = MUSIQ(pretrained=False)
        load_weights(self._network, read_checkpoint(weights), weights)
        # In training mode pyiqa's MUSIQ takes patches instead of pictures; nothing else in it depends on the mode.
        self._network.to(device).train()

    def refuse(self, clip: Clip) -> None:
        height, width = clip.frames_THWC.shape[1:3]
        if LONGEST * min(height, width) < max(height, width):
            raise ValueError(f"MUSIQ sees frames of at most 512 pixels: {width} x {height} is too narrow")

    def answer(self, parts: Sequence[Part]) -> list[float]:
        import torch
        import torch.nn.functional as F
        from pyiqa.data.multiscale_trans_util import get_multiscale_patches

        frames = self.frames(parts).float()
        height, width = frames.shape[-2:]
        longer = max(height, width)
        if longer > LONGEST:
            scale = LONGEST / longer  # rounded before it is used: some sizes come out one pixel smaller, as in VBench
            size = (int(scale * height), int(scale * width))
            frames = F.interpolate(frames, size, mode="bilinear", antialias=False)
        with torch.no_grad():
            patches_PLX = get_multiscale_patches((frames / 255 - 0.5) * 2, **self._network.data_preprocess_opts)
            # Smaller scales are filled up to a square of patches, marked by a last 0, that no other patch looks at.
            scores: list[float] = self._network(patches_PLX[:, patches_PLX[0, :, -1] == 1]).flatten().tolist()
        return scores


class ImagingQuality(FileWeightsScorer):
    """Mean over frames; 0..100, as VBench gives it before it divides by 100: `max: 100` in omniscore.dimensions.

    Weights: `musiq_spaq_ckpt-358bb6af.pth`. pyiqa, which has the network, is PolyForm-Noncommercial 1.0.0.
    """

    version = "2"

    class Options(FileWeightsScorer.Options):
        """MUSIQ's weights."""

        weights: str = "public:musiq_spaq_ckpt-358bb6af.pth"
        """File, as its authors publish it or safetensors; or `public:<file>`."""

    def __init__(self, options: Section, device: str) -> None:
        self.backbone = MusiqFrames(file_of(options), choose_device(device))

    def value(self, clip: Clip, answers: Mapping[int, float]) -> float:
        return float(np.mean([answers[number] for number in range(len(clip.frames_THWC))]))
