"""Dynamic degree, as VBench defines it: whether RAFT sees enough motion; and the motion itself.

Legend: P pairs of frames, C channel, H, W pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from videodpo.config import Section
from videodpo.device import choose_device
from videodpo.scorers.backbone import Backbone, Part
from videodpo.scorers.base import Clip
from videodpo.scorers.file_weights import FileWeightsScorer, file_of
from videodpo.scorers.padding import pad_to_multiples

RATE = 8  # frames a second that are looked at
MULTIPLE, UPDATES, SMALLEST = 8, 20, 128
TOP_SHARE = 0.05
THRESHOLD = 6 / 256  # of the shorter side, a step
PIXELS_AT_ONCE = 2**19, 2**22  # on a CPU, on a GPU


class FlowSteps(Backbone):
    """Sampled frames k and k + 1 give part k: the mean of the largest 5 % of flow lengths, in shorter sides."""

    def __init__(self, weights: Path, device: str) -> None:
        from videodpo.scorers.networks.raft import Raft

        self._raft, self._device = Raft(weights, device), device

    def at_once(self, height: int, width: int) -> int:
        return max(1, PIXELS_AT_ONCE[self._device != "cpu"] // (height * width))

    def num_parts(self, clip: Clip) -> int:
        return len(sampled_frames(clip)) - 1

    def answer(self, parts: Sequence[Part]) -> list[float]:
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
        return [float(value) / shorter for value in largest.mean(dim=1).cpu()]


class _FlowScorer(FileWeightsScorer):
    """Common to both: RAFT, loaded once a process."""

    class Options(FileWeightsScorer.Options):
        """RAFT's weights."""

        weights: str = "public:raft-things.pth"
        """File, as its authors publish it or safetensors; or `public:<file>`."""

    def __init__(self, options: Section, device: str) -> None:
        self.backbone = _load_steps(file_of(options), choose_device(device))


class DynamicFlow(_FlowScorer):
    """Mean length of the largest 5 % of flow, in shorter sides a step of an eighth of a second; 0 is still.

    The continuous number behind `dynamic_degree`, whose threshold lies at 6 / 256 = 0.0234. Weights: `raft-things.pth`.
    A clip with one sampled frame, or with a side below 128, is refused.
    """

    version = "2"

    def refuse(self, clip: Clip) -> None:
        refuse_small(clip)
        if self.backbone.num_parts(clip) == 0:
            raise ValueError(f"dynamic_flow needs 2 frames at {RATE} a second, the clip has 1")

    def value(self, clip: Clip, answers: Mapping[int, float]) -> float:
        return float(np.mean([answers[k] for k in range(self.backbone.num_parts(clip))]))


class DynamicDegree(_FlowScorer):
    """1 if enough steps exceed 6 / 256 of the shorter side, else 0.

    Enough is round(4 n / 16) of n sampled frames, half to even: with 2 frames it is 0, and the answer always 1; with
    one frame there is no step, and the answer 0, as in VBench. Steps are looked at only until the answer is certain.
    A clip with a side below 128 is refused.
    """

    version = "2"

    def refuse(self, clip: Clip) -> None:
        refuse_small(clip)

    def wanted(self, clip: Clip, answers: Mapping[int, float]) -> Iterable[int]:
        unknown = [k for k in range(self.backbone.num_parts(clip)) if k not in answers]
        missing = self._num_needed(clip) - _num_above(answers.values())
        # Certain after so many more at the earliest: all of them above, or so many below that the rest is too few.
        certain = min(missing, len(unknown) - missing + 1)
        return unknown[: max(0, certain)]

    def value(self, clip: Clip, answers: Mapping[int, float]) -> float:
        return float(self.backbone.num_parts(clip) > 0 and _num_above(answers.values()) >= self._num_needed(clip))

    @staticmethod
    def _num_needed(clip: Clip) -> int:
        return round(4 * len(sampled_frames(clip)) / 16)


def sampled_frames(clip: Clip) -> range:
    """Numbers of the frames that are looked at: every k-th from 0, k = the frame rate over 8, rounded."""
    return range(0, len(clip.frames_THWC), max(1, round(clip.fps / RATE)))


def refuse_small(clip: Clip) -> None:
    """Raises ValueError where RAFT's coarsest correlation would have a single row or column."""
    height, width = clip.frames_THWC.shape[1:3]
    if min(height, width) < SMALLEST - MULTIPLE + 1:
        raise ValueError(
            f"RAFT needs sides of at least {SMALLEST - MULTIPLE + 1} pixels, the clip has {width} x {height}"
        )


def _num_above(steps: Iterable[float]) -> int:
    return sum(step > THRESHOLD for step in steps)


@functools.lru_cache(maxsize=2)
def _load_steps(weights: Path, device: str) -> FlowSteps:
    return FlowSteps(weights, device)
