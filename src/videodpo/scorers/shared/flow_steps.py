"""How far things move between sampled frames, by RAFT: what dynamic_degree and dynamic_flow share.

Legend: P pairs of frames, C channel, H, W pixels.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import Backbone, Part, arithmetic
from videodpo.scorers.shared.correlation import pairs_at_once, refuse_large
from videodpo.scorers.shared.file_weights import FileWeightsScorer, file_of
from videodpo.scorers.shared.padding import pad_to_multiples

if TYPE_CHECKING:
    import torch

RATE = 8  # frames a second that are looked at
MULTIPLE, UPDATES, SMALLEST = 8, 20, 128
TOP_SHARE = 0.05
NEAR = 0.05  # of the threshold


class FlowSteps(Backbone):
    """Sampled frames k and k + 1 give part k: the mean of the largest 5 % of flow lengths, in shorter sides.

    Where steps are only held against a threshold, a GPU computes them in TF32, and those near the threshold once more
    in float32. With random weights TF32 moved a flow by 7e-3 pixels at most, a step by 5e-6.
    """

    def __init__(self, weights: Path, device: str, threshold: float | None) -> None:
        from videodpo.scorers.networks.raft import Raft

        self._raft, self._device, self._threshold = Raft(weights, device), device, threshold
        self.tf32 = threshold is not None

    def at_once(self, height: int, width: int) -> int:
        return pairs_at_once(height, width, self._device, volumes=1)

    def refuse(self, clip: Clip) -> None:
        refuse_large(clip)
        height, width = clip.frames_THWC.shape[1:3]
        # RAFT's coarsest correlation would have a single row or column.
        if min(height, width) < (least := SMALLEST - MULTIPLE + 1):
            raise InputError(f"RAFT needs sides of at least {least} pixels, the clip has {width} x {height}")

    def num_parts(self, clip: Clip) -> int:
        return len(sampled_frames(clip)) - 1

    def answer(self, parts: Sequence[Part]) -> list[float]:
        steps = self._steps(parts)
        near = [k for k, step in enumerate(steps) if self._threshold and abs(step / self._threshold - 1) < NEAR]
        if near:
            with arithmetic(tf32=False):
                for k, step in zip(near, self._steps([parts[k] for k in near]), strict=True):
                    steps[k] = step
        return steps

    def _steps(self, parts: Sequence[Part]) -> list[float]:
        import torch

        places: dict[tuple[int, int], int] = {}  # a frame of two pairs is encoded once
        frames: list[torch.Tensor] = []
        pairs = []
        for clip, number in parts:
            ends = []
            for frame in sampled_frames(clip)[number : number + 2]:
                if (id(clip), frame) not in places:
                    places[id(clip), frame] = len(frames)
                    frames.append(clip.pixels(self._device)[frame])
                ends.append(places[id(clip), frame])
            pairs.append((ends[0], ends[1]))
        padded, _ = pad_to_multiples(torch.stack(frames).float(), MULTIPLE)
        flow_PCHW = self._raft.flow(2 * (padded / 255) - 1, pairs, UPDATES)
        lengths = flow_PCHW.square().sum(dim=1).sqrt().flatten(1)
        largest = lengths.topk(int(TOP_SHARE * lengths.shape[1]), dim=1).values
        shorter = min(parts[0][0].frames_THWC.shape[1:3])
        steps = [float(value) / shorter for value in largest.mean(dim=1).cpu()]
        if not all(map(math.isfinite, steps)):
            raise InputError("RAFT's flow is not finite")
        return steps


class FlowScorer(FileWeightsScorer):
    """A scorer that reads RAFT's steps, of clips with sides of at least 121 pixels."""

    class Options(FileWeightsScorer.Options):
        """RAFT's weights."""

        weights: str = "public:raft-things.pth"
        """File, as its authors or torchvision publish it or safetensors; or `public:<file>`."""

    threshold: ClassVar[float | None] = None
    """What steps are held against, where that is all they are computed for."""

    def __init__(self, options: Section, device: str) -> None:
        chosen = choose_device(device)
        self.backbone = _load_steps(file_of(options), chosen, self.threshold if chosen != "cpu" else None)


def sampled_frames(clip: Clip) -> range:
    """Numbers of the frames that are looked at: every k-th from 0, k = the frame rate over 8, rounded."""
    return range(0, len(clip.frames_THWC), max(1, round(clip.fps / RATE)))


@functools.lru_cache(maxsize=4)
def _load_steps(weights: Path, device: str, threshold: float | None) -> FlowSteps:
    return FlowSteps(weights, device, threshold)
