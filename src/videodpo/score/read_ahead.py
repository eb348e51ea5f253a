"""Decodes clips on threads, ahead of the networks that wait for them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from videodpo.files import sha256_of
from videodpo.scorers.base import Clip
from videodpo.video import read_mp4

MAX_BYTES = 2**30  # of decoded frames that wait at most; one clip at least is read, however large


@dataclass(frozen=True)
class Wanted:
    """A clip to be read."""

    path: Path
    prompt: str
    num_bytes: int
    """Of its decoded frames."""
    sha256: str | None = None
    """What the file must have."""


def read_clip(wanted: Wanted) -> Clip | ValueError:
    """The decoded clip, or why there is none."""
    path = wanted.path
    try:
        # Four of five damaged files decode without a complaint, to other pixels: only the digest tells.
        if wanted.sha256 and path.is_file() and path.stat().st_size and sha256_of(path) != wanted.sha256:
            raise ValueError(f"{path.name}: sha256 differs from the videos table")
        frames_THWC, fps = read_mp4(path)
    except ValueError as error:
        return error
    return Clip(frames_THWC, fps, wanted.prompt)


def read_ahead(clips: Iterable[Wanted]) -> Iterator[Clip | ValueError]:
    """`read_clip` of every clip, in order."""
    waiting: deque[tuple[Wanted, Future[Clip | ValueError]]] = deque()
    rest = iter(clips)
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        try:
            ahead = next(rest, None)
            while ahead is not None or waiting:
                while ahead is not None and (
                    not waiting or sum(wanted.num_bytes for wanted, _ in waiting) + ahead.num_bytes <= MAX_BYTES
                ):
                    waiting.append((ahead, pool.submit(read_clip, ahead)))
                    ahead = next(rest, None)
                yield waiting.popleft()[1].result()
        finally:
            for _, future in waiting:
                future.cancel()
