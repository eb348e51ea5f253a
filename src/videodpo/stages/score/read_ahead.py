"""Decode clips in threads, ahead of the networks that need them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import Unavailable
from videodpo.storage.clips import read_clip as read_bytes
from videodpo.storage.manifests import Damaged
from videodpo.storage.video import decode_mp4, read_mp4

# Limits on waiting decoded frames, in bytes and clips. At least one clip is read, however large.
MAX_BYTES, MAX_CLIPS = 2**30, 32


@dataclass(frozen=True)
class Wanted:
    """What to read: a clip's file, and what is known about it."""

    path: Path
    prompt: str
    num_bytes: int
    """Size of its decoded frames."""
    sha256: str | None = None
    """Digest that the clip must have; None for files outside a run."""
    info: dict[str, str] = field(default_factory=dict)


def read_clip(wanted: Wanted) -> Clip | ValueError:
    """Read and decode one clip; return the error if it cannot be read.

    Raises:
        Damaged: the clip differs from its digest in the videos table. It must be sampled again, so it does not become a
            failed row.
    """
    path = wanted.path
    try:
        # Four of five damaged files decode without an error, but to other pixels: only the digest reveals them.
        if wanted.sha256:
            frames_THWC, fps = decode_mp4(read_bytes(path, wanted.sha256), path.name)
        elif path.is_file():
            frames_THWC, fps = read_mp4(path)
        else:
            return Unavailable(f"{path.absolute()}: no such file")
    except OSError as error:
        return Unavailable(f"{path.name}: {error.strerror or error}")
    except Damaged:
        raise
    except ValueError as error:
        return error
    return Clip(frames_THWC, fps, wanted.prompt, path, wanted.info)


_Waiting = tuple[Wanted, Future[Clip | ValueError]]


@contextmanager
def read_ahead(clips: Iterable[Wanted]) -> Iterator[Iterator[Clip | ValueError]]:
    """Apply `read_clip` to every clip, in order.

    The threads end with the block. If a generator owned them, the garbage collector could end them on a thread that
    holds a lock of `threading`, which would be a deadlock.
    """
    with ThreadPoolExecutor(min(4, len(os.sched_getaffinity(0)))) as pool:
        try:
            yield _read_ahead(iter(clips), pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read_ahead(rest: Iterator[Wanted], pool: ThreadPoolExecutor) -> Iterator[Clip | ValueError]:
    waiting: deque[_Waiting] = deque()
    ahead = next(rest, None)
    while ahead is not None or waiting:
        while ahead is not None and (not waiting or _has_room(waiting, ahead)):
            waiting.append((ahead, pool.submit(read_clip, ahead)))
            ahead = next(rest, None)
        yield waiting.popleft()[1].result()


def _has_room(waiting: Sequence[_Waiting], ahead: Wanted) -> bool:
    num_bytes = sum(wanted.num_bytes for wanted, _ in waiting) + ahead.num_bytes
    return len(waiting) < MAX_CLIPS and num_bytes <= MAX_BYTES
