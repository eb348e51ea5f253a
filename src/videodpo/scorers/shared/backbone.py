"""Networks that scorers share: asked once about each part of a clip, in batches that cross the clips' borders.

A part is what a network looks at at a time: a frame, two neighbouring frames, a whole clip.

Legend: P parts, C channel, H, W pixels.
"""

from __future__ import annotations

import logging
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from videodpo.config.errors import InputError
from videodpo.scorers.base import Clip, Scorer

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
_OUT_OF_MEMORY = ("out of memory", "ALLOC_FAILED", "DefaultCPUAllocator")

Part = tuple[Clip, int]
Result = float | ValueError


class Unavailable(InputError):
    """A score that another try may find: the clip's file, or the memory, was not there."""


class Backbone(ABC):
    """One network with its handling of frames. Scorers that hold the same object share its answers.

    Attributes:
        tf32: whether a GPU may multiply in TF32, 11 bits of a float32's 24: where scores still agree with the CPU's.
    """

    tf32 = False

    @abstractmethod
    def at_once(self, height: int, width: int) -> int:
        """Parts of clips of this size to be asked about in one batch; follows from size and device alone."""

    @abstractmethod
    def num_parts(self, clip: Clip) -> int:
        """Parts of the clip, numbered from 0."""

    def refuse(self, clip: Clip) -> None:  # noqa: B027 (most networks take any clip)
        """Look at the clip before the network does.

        Raises:
            InputError: the network cannot look at it.
        """

    @abstractmethod
    def answer(self, parts: Sequence[Part]) -> list[Any]:
        """The network's answer to every part, on the CPU. All parts are of clips of one height and width.

        Raises:
            InputError: a part has no answer; where there are several, they are asked again one by one.
        """


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


class ClipBackbone(Backbone):
    """A network that looks at whole clips: the one part of a clip is the clip."""

    def __init__(self, device: str, clips_at_once: int) -> None:
        """clips_at_once: on a GPU; a CPU takes one."""
        self.device = device
        self._at_once = 1 if device == "cpu" else clips_at_once

    def at_once(self, height: int, width: int) -> int:
        return self._at_once

    def num_parts(self, clip: Clip) -> int:
        return 1


class NetworkScorer(Scorer):
    """A scorer that reads a clip's score off the answers of a backbone."""

    uses_gpu = True
    backbone: Backbone

    def refuse(self, clip: Clip) -> None:
        """Raises InputError for a clip that has no score by this formula; its parts are asked about all the same."""

    def wanted(self, clip: Clip, answers: Mapping[int, Any]) -> Iterable[int]:
        """Parts that `value` needs; asked again after every round, with the answers so far. Known parts do no harm.

        All of them, unless the scorer's backbone is its own: what shares a batch must not depend on which of several
        scorers happen to want their scores now.
        """
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
    answers: list[dict[int, Any]] = [{} for _ in clips]
    lost = {number: error for number, clip in enumerate(clips) if (error := _refusal(backbone, clip))}
    limits: dict[tuple[int, int], int] = {}
    while todo := {
        (number, part)
        for scorer in scorers
        for number, clip in enumerate(clips)
        if number not in lost
        for part in scorer.wanted(clip, answers[number])
        if part not in answers[number]
    }:
        for size, parts in _by_size(sorted(todo), clips).items():
            _ask(backbone, size, parts, clips, answers, lost, limits)
    return [
        [
            _refusal(scorer, clip) or _value(scorer, clip, answers[number], lost.get(number))
            for number, clip in enumerate(clips)
        ]
        for scorer in scorers
    ]


def _value(scorer: NetworkScorer, clip: Clip, answers: Mapping[int, Any], lost: ValueError | None) -> Result:
    """The score, or why parts that it needs have no answers."""
    if lost is not None and any(part not in answers for part in scorer.wanted(clip, answers)):
        return lost
    return _result(scorer.value, clip, answers)


def _by_size(todo: Sequence[tuple[int, int]], clips: Sequence[Clip]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Height and width: parts of such clips, in order."""
    sizes: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for number, part in todo:
        height, width = clips[number].frames_THWC.shape[1:3]
        sizes.setdefault((height, width), []).append((number, part))
    return sizes


def _ask(
    backbone: Backbone,
    size: tuple[int, int],
    todo: Sequence[tuple[int, int]],
    clips: Sequence[Clip],
    answers: list[dict[int, Any]],
    lost: dict[int, ValueError],
    limits: dict[tuple[int, int], int],
) -> None:
    """Ask in batches; where the memory does not hold one, in batches half as large from then on."""
    start = 0
    while start < len(todo):
        most = min(backbone.at_once(*size), limits.get(size, len(todo)))
        batch = todo[start : start + most]
        found = _answers(backbone, [(clips[number], part) for number, part in batch])
        if isinstance(found, Unavailable) and len(batch) > 1:
            limits[size] = len(batch) // 2
            log.warning("%s: %s; %d at once from now on", type(backbone).__name__, found, limits[size])
            continue
        for index, (number, part) in enumerate(batch):
            # One part without an answer costs its batch mates nothing.
            alone = isinstance(found, ValueError) and len(batch) > 1
            one = _answers(backbone, [(clips[number], part)]) if alone else found
            if isinstance(one, ValueError):
                lost[number] = one
            else:
                answers[number][part] = one[0 if alone else index]
        start += len(batch)


def _answers(backbone: Backbone, parts: Sequence[Part]) -> list[Any] | ValueError:
    import torch

    try:
        with arithmetic(tf32=backbone.tf32):
            return backbone.answer(parts)
    except ValueError as error:
        return error
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY)):
            raise
    # Only now does no traceback hold the tensors any more.
    torch.cuda.empty_cache()
    height, width = parts[0][0].frames_THWC.shape[1:3]
    return Unavailable(f"out of memory at {width} x {height}")


@contextmanager
def arithmetic(*, tf32: bool) -> Iterator[None]:
    """Products of float32 on a GPU in TF32, or not; convolutions give the same bits again. As before afterwards."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _refusal(judge: Backbone | NetworkScorer, clip: Clip) -> ValueError | None:
    try:
        judge.refuse(clip)
    except ValueError as error:
        return error
    return None


def _result(score: Callable[..., float], *arguments: Any) -> Result:
    try:
        value = score(*arguments)
    except ValueError as error:
        return error
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError):  # what a plug-in gives, a tensor of several values too
        return InputError(f"the scorer gave {type(value).__name__}, not one number")
    return number if math.isfinite(number) else ValueError(f"the scorer gave {number}")
