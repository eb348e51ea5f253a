"""Dynamic degree, as VBench defines it: whether RAFT sees enough motion; and the motion itself.

Legend: T frames, C channel, H, W pixels.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from videodpo.config import Section
from videodpo.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.file_weights import FileWeightsScorer, file_of
from videodpo.scorers.padding import pad_to_multiples

RATE = 8  # frames a second that are looked at
MULTIPLE, UPDATES = 8, 20
TOP_SHARE = 0.05
THRESHOLD = 6 / 256  # of the shorter side, a step


class DynamicFlow(FileWeightsScorer):
    """Mean length of the largest 5 % of flow, in shorter sides a step of an eighth of a second; 0 is still.

    The continuous number behind `dynamic_degree`, whose threshold lies at 6 / 256 = 0.0234. Weights: `raft-things.pth`.
    A clip with one sampled frame raises ValueError.
    """

    version = "1"

    def __init__(self, options: Section, device: str) -> None:
        from videodpo.scorers.networks.raft import load_raft

        self._device = choose_device(device)
        self._network = load_raft(file_of(options), self._device)

    def score(self, clip: Clip) -> float:
        steps = self._steps(clip)
        if not len(steps):
            raise ValueError(f"{type(self).__name__} needs 2 frames at {RATE} a second, the clip has 1")
        return float(steps.mean())

    def _steps(self, clip: Clip) -> np.ndarray:
        """For neighbouring sampled frames the mean of the largest 5 % of flow lengths, in shorter sides."""
        import torch

        sampled = clip.frames_THWC[:: max(1, round(clip.fps / RATE))]
        frames_TCHW = torch.from_numpy(np.ascontiguousarray(sampled)).to(self._device).permute(0, 3, 1, 2).float()
        padded_TCHW, _ = pad_to_multiples(frames_TCHW, MULTIPLE)
        padded_TCHW = 2 * (padded_TCHW / 255) - 1
        steps = []
        for before, after in pairwise(padded_TCHW):
            with torch.no_grad():
                flow_2HW = self._network(before[None], after[None], num_flow_updates=UPDATES)[-1][0]
            lengths = flow_2HW.square().sum(dim=0).sqrt().flatten()
            largest = lengths.sort(descending=True).values[: int(TOP_SHARE * len(lengths))]
            steps.append(float(largest.mean()))
        shares: np.ndarray = np.array(steps) / min(clip.frames_THWC.shape[1:3])
        return shares


class DynamicDegree(DynamicFlow):
    """1 if enough steps exceed 6 / 256 of the shorter side, else 0.

    Enough is round(4 n / 16) of n sampled frames, half to even: with 2 frames it is 0, and the answer always 1; with
    one frame there is no step, and the answer 0, as in VBench.
    """

    version = "1"

    def score(self, clip: Clip) -> float:
        steps = self._steps(clip)
        return float(len(steps) > 0 and int((steps > THRESHOLD).sum()) >= round(4 * (len(steps) + 1) / 16))
