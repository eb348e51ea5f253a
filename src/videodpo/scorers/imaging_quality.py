"""Imaging quality, as VBench defines it: MUSIQ trained on SPAQ, frame by frame.

Legend: T frames, C channel, H, W pixels.
"""

from __future__ import annotations

import numpy as np

from videodpo.config import Section
from videodpo.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.file_weights import FileWeightsScorer, file_of

LONGEST = 512


class ImagingQuality(FileWeightsScorer):
    """Mean over frames; 0..100, as VBench gives it before it divides by 100: `max: 100` in omniscore.dimensions.

    A frame whose longer side exceeds 512 is brought to it (bilinear, no antialias). Weights:
    `musiq_spaq_ckpt-358bb6af.pth`. pyiqa, which has the network, is PolyForm-Noncommercial 1.0.0.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        from pyiqa.archs.musiq_arch import MUSIQ

        from videodpo.scorers.networks.checkpoints import load_weights, read_checkpoint

        path = file_of(options)
        self._device = choose_device(device)
        self._network = MUSIQ(pretrained=False)
        load_weights(self._network, read_checkpoint(path), path)
        self._network.to(self._device)

    def score(self, clip: Clip) -> float:
        import torch
        import torch.nn.functional as F

        height, width = clip.frames_THWC.shape[1:3]
        longer = max(height, width)
        values = []
        for frame_HWC in clip.frames_THWC:
            frame = torch.from_numpy(frame_HWC).to(self._device).permute(2, 0, 1)[None].float()
            if longer > LONGEST:
                size = (int(LONGEST * height / longer), int(LONGEST * width / longer))
                frame = F.interpolate(frame, size, mode="bilinear", antialias=False)
            with torch.no_grad():
                values.append(float(self._network(frame / 255)))
        return float(np.mean(values))
