"""Motion smoothness, as VBench defines it: how well AMT-S draws every second frame from its neighbours.

Legend: T frames, C channel, H, W pixels.
"""

from __future__ import annotations

import numpy as np

from videodpo.config import Section
from videodpo.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.file_weights import FileWeightsScorer, file_of
from videodpo.scorers.padding import pad_to_multiples

MULTIPLE = 16


class MotionSmoothness(FileWeightsScorer):
    """(255 - mean absolute difference of drawn and true frames) / 255: 0..1.

    Frames 0 and 2 give the one between them, then 2 and 4, and so on; an even number leaves the last frame out. The
    drawn frame is cut down to 8 bits before it is compared. Weights: `amt-s.pth`, which is CC BY-NC-SA 4.0. A clip of
    fewer than 3 frames raises ValueError.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.amt import AmtS
        from videodpo.scorers.networks.checkpoints import load_weights, read_checkpoint

        path = file_of(options)
        self._network = AmtS()
        load_weights(self._network, read_checkpoint(path), path)
        self._device = choose_device(device)
        self._network.to(self._device)

    def score(self, clip: Clip) -> float:
        import torch

        frames = clip.frames_THWC
        if len(frames) < 3:
            raise ValueError(f"motion_smoothness needs at least 3 frames, the clip has {len(frames)}")
        known_TCHW = torch.from_numpy(frames[::2]).to(self._device).permute(0, 3, 1, 2)
        height, width = frames.shape[1:3]
        differences = []
        for k, true_HWC in enumerate(frames[1 : len(frames) - 1 : 2]):
            pair, (top, left) = pad_to_multiples(known_TCHW[k : k + 2].float() / 255, MULTIPLE)
            with torch.no_grad():
                drawn = self._network(pair[:1], pair[1:])[0, :, top : top + height, left : left + width]
            drawn_HWC = (drawn * 255).permute(1, 2, 0).cpu().numpy().astype(np.uint8)
            differences.append(np.abs(drawn_HWC.astype(np.float32) - true_HWC.astype(np.float32)).mean())
        return float((255.0 - np.mean(differences, dtype=np.float64)) / 255.0)
