"""Networks that scorers share: asked once about each part of a clip, in batches that cross the clips' borders.

A part is what a network looks at at a time: a frame, two neighbouring frames, a whole clip.

Legend: P parts, C channel, H, W pixels.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from videodpo.scorers.base import Clip, Scorer

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

Part = tuple[Clip, int]
Result = float | ValueError


class Backbone(ABC):
    """One network with its handling of frames. Scorers that hold the same object share its answers."""

    _limit: int | None = None
    """Parts that fit into memory at once, once it has run out."""

    @abstractmethod
    def at_once(self, height: int, width: int) -> int:
        """Parts of clips of this size to be asked about in one batch; follows from size and device alone."""

    @abstractmethod
    def num_parts(self, clip: Clip) -> int:
        """Parts of the clip, numbered from 0."""

    @abstractmethod
    def answer(self, parts: Sequence[Part]) -> list[Any]:
        """The network's answer to every part, on the CPU. All parts are of clips of one height and width."""


class FrameBackbone(Backbone):
    """A network that looks at single frames."""

    def __init__(self, device: str, frames_at_once: int) -> None:
        """frames_at_once: on a CPU, where few fit into the caches; a GPU takes 32 times as many."""
        self.device = device
        self._at_once = frames_at_once if device == "cpu" else 32 * frames_at_once

    def at_once(self, height: int, width: int) -> int:
        return self._at_once

    def num_parts(self, clip: Clip) -> int:
        return len(clip.frames_THWC)

    def frames(self, parts: Sequence[Part]) -> torch.Tensor:
        """The parts' frames on the device, uint8 [P, 3, H, W]."""
        import torch

        return torch.stack([clip.pixels(self.device)[number] for clip, number in parts])


class NetworkScorer(Scorer):
    """A scorer that reads a clip's score off the answers of a backbone."""

    uses_gpu = True
    backbone: Backbone

    def refuse(self, clip: Clip) -> None:
        """Look at the clip before any network does.

        Raises:
            ValueError: it cannot be scored.
        """

    def wanted(self, clip: Clip, answers: Mapping[int, Any]) -> Iterable[int]:
        """Parts that `value` needs; asked again after every round, with the answers so far. Known parts do no harm."""
        return range(self.backbone.num_parts(clip))

    @abstractmethod
    def value(self, clip: Clip, answers: Mapping[int, Any]) -> float:
        """The score, from the answers by number of the part; those that other scorers asked for may be among them."""

    def score(self, clip: Clip) -> float:
        result = score_clips([self], [clip])[0][0]
        if isinstance(result, ValueError):
            raise result
        return result


def score_clips(scorers: Sequence[Scorer], clips: Sequence[Clip]) -> list[list[Result]]:
    """Every clip's score, or why it has none, by each scorer.

    Scorers with one backbone share its answers, so the network sees a part once. What shares a batch follows from
    the clips alone: the same clips in the same order have the same scores, to the bit.

    Returns:
        [scorer][clip].
    """
    results: list[list[Result]] = [[] for _ in scorers]
    backbones: dict[int, list[int]] = {}
    for number, scorer in enumerate(scorers):
        if isinstance(scorer, NetworkScorer):
            backbones.setdefault(id(scorer.backbone), []).append(number)
        else:
            results[number] = [_result(scorer.score, clip) for clip in clips]
    for numbers in backbones.values():
        sharing = [scorer for number in numbers if isinstance(scorer := scorers[number], NetworkScorer)]
        for number, found in zip(numbers, _score_shared(sharing, clips), strict=True):
            results[number] = found
    return results


def _score_shared(scorers: Sequence[NetworkScorer], clips: Sequence[Clip]) -> list[list[Result]]:
    backbone = scorers[0].backbone
    refused = [[_refusal(scorer, clip) for clip in clips] for scorer in scorers]
    answers: list[dict[int, Any]] = [{} for _ in clips]
    lost: dict[int, ValueError] = {}
    while todo := {
        (number, part)
        for scorer, reasons in zip(scorers, refused, strict=True)
        for number, clip in enumerate(clips)
        if reasons[number] is None and number not in lost
        for part in scorer.wanted(clip, answers[number])
        if part not in answers[number]
    }:
        for batch in _by_size(sorted(todo), clips):
            _ask(backbone, batch, clips, answers, lost)
    return [
        [
            reasons[number] or lost.get(number) or _result(scorer.value, clip, answers[number])
            for number, clip in enumerate(clips)
        ]
        for scorer, reasons in zip(scorers, refused, strict=True)
    ]


def _by_size(todo: Sequence[tuple[int, int]], clips: Sequence[Clip]) -> Iterator[list[tuple[int, int]]]:
    """Parts of clips of one height and width, in order."""
    sizes: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for number, part in todo:
        height, width = clips[number].frames_THWC.shape[1:3]
        sizes.setdefault((height, width), []).append((number, part))
    yield from sizes.values()


def _ask(
    backbone: Backbone,
    todo: Sequence[tuple[int, int]],
    clips: Sequence[Clip],
    answers: list[dict[int, Any]],
    lost: dict[int, ValueError],
) -> None:
    """Ask in batches; where the memory does not hold one, in batches half as large from then on."""
    height, width = clips[todo[0][0]].frames_THWC.shape[1:3]
    start = 0
    while start < len(todo):
        most = backbone.at_once(height, width)
        if backbone._limit is not None:
            most = min(most, backbone._limit)
        batch = todo[start : start + most]
        try:
            found = backbone.answer([(clips[number], part) for number, part in batch])
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            if len(batch) == 1:
                lost[batch[0][0]] = ValueError(f"{type(backbone).__name__}: out of memory at {width} x {height}")
                found = [None]
            else:
                backbone._limit = len(batch) // 2
                log.warning("%s: out of memory; %d at once from now on", type(backbone).__name__, backbone._limit)
                continue
        for (number, part), answer in zip(batch, found, strict=True):
            answers[number][part] = answer
        start += len(batch)


def _out_of_memory(error: Exception) -> bool:
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        torch.cuda.empty_cache()
        return True
    return isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error)


def _refusal(scorer: NetworkScorer, clip: Clip) -> ValueError | None:
    try:
        scorer.refuse(clip)
    except ValueError as error:
        return error
    return None


def _result(score: Callable[..., float], *arguments: Any) -> Result:
    try:
        value = float(score(*arguments))
    except ValueError as error:
        return error
    return value if math.isfinite(value) else ValueError(f"the scorer gave {value}")
