"""Networks shared by scorers. Each part of a clip is evaluated once, in batches across clips.

A part is the input of a network: a frame, two neighbouring frames, or an entire clip.

Legend: P parts, C channel, H, W pixels.
"""

from __future__ import annotations

import functools
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
    """A temporary failure, which a retry may fix: the clip's file was unavailable, or memory ran out."""


class BatchFailed(Unavailable):
    """The batch failed as one. It is retried in halves."""


class OutOfMemory(BatchFailed):
    """The batch does not fit into memory. Later batches are not larger than its half."""


class Shared:
    """Something that each process loads once for the same arguments, such as a network."""

    @classmethod
    @functools.cache
    def shared(cls, *arguments: Any) -> Any:
        """Return the object of this class for these arguments."""
        return cls(*arguments)


class Backbone(Shared, ABC):
    """One network with its preprocessing of frames. Scorers with the same object share its outputs.

    Attributes:
        tf32: True if a GPU may multiply in TF32 (11 instead of 24 bits). Scores must still agree with the CPU's.
    """

    tf32 = False

    @functools.cached_property
    def _reduced(self) -> dict[tuple[int, int], int]:
        """Batch sizes by (height, width) where a batch did not fit into memory, for the rest of the process."""
        return {}

    @abstractmethod
    def batch_size(self, height: int, width: int) -> int:
        """Return the number of parts per batch for clips of this size. Must depend on size and device only."""

    @abstractmethod
    def num_parts(self, clip: Clip) -> int:
        """Return the number of parts of the clip; parts are numbered from 0."""

    def refuse(self, clip: Clip) -> None:
        """Check the clip before the network sees it.

        Raises:
            InputError: the network cannot take this clip.
        """

    @abstractmethod
    def outputs(self, parts: Sequence[Part]) -> list[Any]:
        """Return the network's output for each part, on the CPU. All clips have the same height and width.

        Raises:
            InputError: a part has no output. The parts of the batch are then retried one by one.
        """


class FrameBackbone(Backbone):
    """A network whose parts are single frames."""

    def __init__(self, device: str, frames_per_batch: int) -> None:
        """Set the batch size.

        Args:
            device: name of the torch device.
            frames_per_batch: batch size on a CPU, where few frames fit into the caches. A GPU takes 32 times as many.
        """
        self.device = device
        self._batch_size = frames_per_batch if device == "cpu" else 32 * frames_per_batch

    def batch_size(self, height: int, width: int) -> int:
        return self._batch_size

    def num_parts(self, clip: Clip) -> int:
        return len(clip.frames_THWC)

    def frames(self, parts: Sequence[Part]) -> torch.Tensor:
        """Return the parts' frames on the device, uint8 [P, 3, H, W]."""
        import torch

        return torch.stack([clip.pixels(self.device)[number] for clip, number in parts])


class ClipBackbone(Backbone):
    """A network that sees entire clips: each clip has one part."""

    def __init__(self, device: str, clips_per_batch: int) -> None:
        """Set the batch size.

        Args:
            device: name of the torch device.
            clips_per_batch: batch size on a GPU. A CPU takes one clip.
        """
        self.device = device
        self._batch_size = 1 if device == "cpu" else clips_per_batch

    def batch_size(self, height: int, width: int) -> int:
        return self._batch_size

    def num_parts(self, clip: Clip) -> int:
        return 1


class NetworkScorer(Scorer):
    """A scorer that computes a clip's score from the outputs of a backbone."""

    uses_gpu = True
    backbone: Backbone

    def refuse(self, clip: Clip) -> None:
        """Check the clip before its score is computed.

        The backbone still evaluates the clip's parts: without them, batches would depend on which scorers run, and with
        the batches the last bits of other clips' scores. A clip that no scorer of a backbone takes is refused by the
        backbone.

        Raises:
            InputError: this scorer cannot score the clip.
        """

    def wanted(self, clip: Clip, outputs: Mapping[int, Any]) -> Iterable[int]:
        """Return the parts that `value` needs, given the outputs so far. Called after every round of batches.

        May include parts with known outputs. All scorers of a backbone return the same parts: the composition of
        batches must not depend on which scorers are to be run now.
        """
        return range(self.backbone.num_parts(clip))

    @abstractmethod
    def value(self, clip: Clip, outputs: Mapping[int, Any]) -> float:
        """Compute the score from the outputs by part number. There may be more outputs than `wanted` returned."""

    def score(self, clip: Clip) -> float:
        result = score_clips([self], [clip])[0][0]
        if isinstance(result, ValueError):
            raise result
        return result


def score_clips(scorers: Sequence[Scorer], clips: Sequence[Clip]) -> list[list[Result]]:
    """Score every clip with every scorer.

    Scorers with the same backbone share its outputs, so the network sees each part once. The composition of batches
    depends on the clips only: the same clips in the same order have bit-identical scores.

    Returns:
        Scores or errors, [scorer][clip].
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
    outputs: list[dict[int, Any]] = [{} for _ in clips]
    lost = {number: error for number, clip in enumerate(clips) if (error := _refusal(backbone, clip))}
    while todo := {
        (number, part)
        for scorer in scorers
        for number, clip in enumerate(clips)
        if number not in lost
        for part in scorer.wanted(clip, outputs[number])
        if part not in outputs[number]
    }:
        for size, parts in _by_size(sorted(todo), clips).items():
            _ask(backbone, size, parts, clips, outputs, lost)
    return [
        [
            _refusal(scorer, clip) or _value(scorer, clip, outputs[number], lost.get(number))
            for number, clip in enumerate(clips)
        ]
        for scorer in scorers
    ]


def _value(scorer: NetworkScorer, clip: Clip, outputs: Mapping[int, Any], lost: ValueError | None) -> Result:
    """Return the score, or the error of a part that it needs."""
    if lost is not None and any(part not in outputs for part in scorer.wanted(clip, outputs)):
        return lost
    return _result(scorer.value, clip, outputs)


def _by_size(todo: Sequence[tuple[int, int]], clips: Sequence[Clip]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Group (clip number, part) by the (height, width) of the clip, in order."""
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
    outputs: list[dict[int, Any]],
    lost: dict[int, ValueError],
) -> None:
    """Evaluate parts in batches. If a batch does not fit into memory, halve the batch size from then on."""
    start, most = 0, backbone.batch_size(*size)
    while start < len(todo):
        most = min(most, backbone._reduced.get(size, most))
        batch = todo[start : start + most]
        found = _outputs(backbone, [(clips[number], part) for number, part in batch])
        if isinstance(found, BatchFailed) and len(batch) > 1:
            most = len(batch) // 2
            if isinstance(found, OutOfMemory):
                backbone._reduced[size] = most
            log.warning("%s: %s; batch size %d from now on", type(backbone).__name__, found, most)
            continue
        for index, (number, part) in enumerate(batch):
            # If a batch fails, retry its parts one by one, so that one bad part does not fail the others.
            alone = isinstance(found, ValueError) and len(batch) > 1
            one = _outputs(backbone, [(clips[number], part)]) if alone else found
            if isinstance(one, ValueError):
                lost[number] = one
            else:
                outputs[number][part] = one[0 if alone else index]
        start += len(batch)


def _outputs(backbone: Backbone, parts: Sequence[Part]) -> list[Any] | ValueError:
    import torch

    try:
        with arithmetic(tf32=backbone.tf32):
            return backbone.outputs(parts)
    except ValueError as error:
        return error
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or any(sign in str(error) for sign in _OUT_OF_MEMORY)):
            raise
    # Outside the except block, no traceback keeps the tensors alive.
    torch.cuda.empty_cache()
    height, width = parts[0][0].frames_THWC.shape[1:3]
    return OutOfMemory(f"out of memory at {width} x {height}")


@contextmanager
def arithmetic(*, tf32: bool) -> Iterator[None]:
    """Allow or forbid TF32 matmuls and force deterministic cuDNN inside the block; restore both on exit."""
    import torch

    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _refusal(refuser: Backbone | NetworkScorer, clip: Clip) -> ValueError | None:
    try:
        refuser.refuse(clip)
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
    except (TypeError, ValueError, RuntimeError):  # plug-ins may return anything, such as a tensor of several values
        return InputError(f"the scorer returned {type(value).__name__}; it must return one number")
    return number if math.isfinite(number) else ValueError(f"the scorer returned {number}")
