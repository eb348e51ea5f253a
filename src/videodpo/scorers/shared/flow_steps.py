"""Motion between frames by RAFT, for dynamic_degree, dynamic_flow and static_clip.

Legend: P pairs of frames, C channel, H, W pixels.
"""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from videodpo.config import Section
from videodpo.config.errors import InputError
from videodpo.runtime.device import choose_device
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import Backbone, Part, arithmetic
from videodpo.scorers.shared.correlation import pairs_per_batch, refuse_large
from videodpo.scorers.shared.file_weights import FileWeightsScorer, file_of
from videodpo.scorers.shared.padding import pad_to_multiples

RATE = 8  # sampled frames per second, as in VBench
MULTIPLE = 8  # pixels: padded sides are multiples, because RAFT's features have 1/8 of the size
SMALLEST_PADDED = 128  # pixels of a padded side: two positions in the coarsest correlation, at 1/64 of the size
UPDATES = 20  # recurrent updates of the flow, as in VBench
NEAR = 0.05  # distance to the threshold, relative to it; TF32 changes a step by 2e-4 of dynamic_degree's threshold


class FlowPairs(Backbone):
    """Part k is the mean of the largest flow lengths between the two frames of pair k.

    Lengths are in units of the frame's shorter side. If they are only compared with a threshold, a GPU computes them
    in TF32, and recomputes those near the threshold in float32. With random weights, TF32 changed flows by at most
    7e-3 pixels, and steps by 5e-6.

    Attributes:
        top_share: share of the lengths that count.
    """

    top_share: ClassVar[float]

    def __init__(self, weights: Path, device: str, threshold: float | None = None) -> None:
        """Load RAFT.

        Args:
            weights: `raft-things.pth`, or a file with torchvision's own names.
            device: name of the torch device.
            threshold: threshold with which the lengths are compared, if they are used for nothing else.
        """
        from videodpo.scorers.networks.raft import Raft

        self._raft, self._device, self._threshold = Raft(weights, device), device, threshold
        self.tf32 = threshold is not None

    @abstractmethod
    def pairs(self, clip: Clip) -> Sequence[tuple[int, int]]:
        """Return the numbers of the two frames of each pair."""

    def batch_size(self, height: int, width: int) -> int:
        return pairs_per_batch(height, width, self._device, volumes=1)

    def refuse(self, clip: Clip) -> None:
        refuse_large(clip)
        height, width = clip.frames_THWC.shape[1:3]
        # For smaller frames, RAFT's coarsest correlation would have a single row or column.
        if min(height, width) < (least := SMALLEST_PADDED - MULTIPLE + 1):
            raise InputError(f"RAFT needs sides of at least {least} pixels, the clip has {width} x {height}")

    def num_parts(self, clip: Clip) -> int:
        return len(self.pairs(clip))

    def outputs(self, parts: Sequence[Part]) -> list[float]:
        steps = self._steps(parts)
        near = [k for k, step in enumerate(steps) if self._threshold and abs(step / self._threshold - 1) < NEAR]
        if near:
            with arithmetic(tf32=False):
                for k, step in zip(near, self._steps([parts[k] for k in near]), strict=True):
                    steps[k] = step
        return steps

    def _steps(self, parts: Sequence[Part]) -> list[float]:
        import torch

        ends = [[(clip, frame) for frame in self.pairs(clip)[number]] for clip, number in parts]
        distinct = list(dict.fromkeys(itertools.chain(*ends)))  # a frame in two pairs is encoded once
        pairs = [(distinct.index(first), distinct.index(second)) for first, second in ends]
        frames = torch.stack([clip.pixels(self._device)[frame] for clip, frame in distinct])
        padded, _ = pad_to_multiples(frames.float(), MULTIPLE)
        flow_PCHW = self._raft.flow(2 * (padded / 255) - 1, pairs, UPDATES)
        lengths = flow_PCHW.square().sum(dim=1).sqrt().flatten(1)
        largest = lengths.topk(int(self.top_share * lengths.shape[1]), dim=1).values
        shorter = min(parts[0][0].frames_THWC.shape[1:3])
        steps = [float(value) / shorter for value in largest.mean(dim=1).cpu()]
        if not all(map(math.isfinite, steps)):
            raise InputError("RAFT's flow is not finite")
        return steps


class FlowSteps(FlowPairs):
    """Part k is the mean of the largest 5 % of flow lengths from sampled frame k to k + 1."""

    top_share = 0.05

    def pairs(self, clip: Clip) -> Sequence[tuple[int, int]]:
        return list(itertools.pairwise(sampled_frames(clip)))


class RaftScorer(FileWeightsScorer):
    """A scorer on RAFT, for clips with sides of at least 121 pixels."""

    class Options(FileWeightsScorer.Options):
        """Weights of RAFT."""

        weights: str = "public:raft-things.pth"
        """Weights file, in the authors' or torchvision's format or safetensors; or `public:<file>`."""


class FlowScorer(RaftScorer):
    """A scorer on RAFT's steps between sampled frames."""

    threshold: ClassVar[float | None] = None
    """Threshold of steps, if the score only compares them with it."""

    def __init__(self, options: Section, device: str) -> None:
        chosen = choose_device(device)
        self.backbone = FlowSteps.shared(file_of(options), chosen, self.threshold if chosen != "cpu" else None)


def sampled_frames(clip: Clip) -> range:
    """Return the numbers of the sampled frames: every k-th from 0, k = frame rate / 8, rounded."""
    return range(0, len(clip.frames_THWC), max(1, round(clip.fps / RATE)))


def undecided(parts: Iterable[int], steps: Mapping[int, float], threshold: float, num_needed: int) -> list[int]:
    """Return the parts to compute next, to decide whether `num_needed` parts exceed a threshold; none if it is decided.

    Args:
        parts: numbers of all parts.
        steps: the known steps by part number; other parts than these are ignored.
    """
    parts = list(parts)
    unknown = [k for k in parts if k not in steps]
    missing = num_needed - sum(steps[k] > threshold for k in parts if k in steps)
    # Smallest number of parts that can decide: all are above, or too few remain to reach the number.
    return unknown[: max(0, min(missing, len(unknown) - missing + 1))]
