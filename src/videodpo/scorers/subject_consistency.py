"""Subject consistency, as VBench defines it: DINO's class tokens of all frames.

Legend: T frames, C channel, H, W pixels.
"""

from __future__ import annotations

from videodpo.config import Section
from videodpo.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.file_weights import FileWeightsScorer, file_of
from videodpo.scorers.frame_consistency_clip import at_least_two, consistency

SIDE = 224
FRAMES_AT_ONCE = 16  # fixed, so that a clip's numbers depend on nothing but the clip


class SubjectConsistency(FileWeightsScorer):
    """For i >= 1 the average of max(0, cos(i, i - 1)) and max(0, cos(i, 0)), the mean over i; 0..1.

    Every frame, its shorter side brought to 224 (bilinear, no antialias), uncut. Weights:
    `dino_vitbase16_pretrain.pth`. A one-frame clip raises ValueError.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.dino import DinoFrames

        self._device = choose_device(device)
        self._dino = DinoFrames(file_of(options), self._device)

    def score(self, clip: Clip) -> float:
        import torch
        import torch.nn.functional as F

        frames_THWC = at_least_two(clip)
        height, width = frames_THWC.shape[1:3]
        shorter = min(height, width)
        size = (int(SIDE * height / shorter), int(SIDE * width / shorter))
        tokens = []
        for start in range(0, len(frames_THWC), FRAMES_AT_ONCE):
            part = torch.from_numpy(frames_THWC[start : start + FRAMES_AT_ONCE]).to(self._device).permute(0, 3, 1, 2)
            tokens.append(self._dino(F.interpolate(part.float(), size, mode="bilinear", antialias=False) / 255).cpu())
        return consistency(torch.cat(tokens))
