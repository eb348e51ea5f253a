"""Amount of motion by RAFT: the continuous quantity behind dynamic degree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.flow_steps import RATE, FlowScorer


class DynamicFlow(FlowScorer):
    """Mean of the largest 5 % of flow lengths, in units of the frame's shorter side per step of 1/8 s; 0 is still.

    The threshold of `dynamic_degree` is 6 / 256 = 0.0234. Weights: `raft-things.pth`. A clip with only one sampled
    frame is refused.
    """

    version = "3"

    def refuse(self, clip: Clip) -> None:
        if self.backbone.num_parts(clip) == 0:
            raise InputError(f"dynamic_flow needs 2 frames at {RATE} per second, the clip has 1")

    def value(self, clip: Clip, outputs: Mapping[int, float]) -> float:
        return float(np.mean([outputs[k] for k in range(self.backbone.num_parts(clip))]))
