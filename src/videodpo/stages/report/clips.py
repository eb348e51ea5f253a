"""Copies of the run's clips next to the page. Links would share a damaged clip's bytes, and end on another disk."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from videodpo.config.errors import InputError
from videodpo.storage.clips import file_of, read_clip
from videodpo.storage.files import atomic_path

T = TypeVar("T")


class ClipFolder:
    """Folder of the page's clips, named after their origin and video_id."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, run_folder: Path, arm: str, video: Mapping[str, Any]) -> str | None:
        """Copy one clip.

        Args:
            run_folder: folder of the run that made the clip.
            arm: origin of the clip, for its file name.
            video: row of a videos table.

        Returns:
            Path relative to the page; None if the clip no longer exists in the run's folder.

        Raises:
            InputError: the video_id is not fit for a file name, or the clip is damaged.
        """
        video_id = str(video["video_id"])
        if not re.fullmatch(r"[A-Za-z0-9_-]+", video_id):
            raise InputError(f"video_id {video_id!r}: letters, digits, - and _ only; the videos table is not ours")
        source = run_folder / str(video["path"])
        if not file_of(source).is_file():
            return None
        final = self._folder / f"{arm}-{video_id}.mp4"
        if not final.exists():
            with atomic_path(final) as partial:
                partial.write_bytes(read_clip(source, str(video["sha256"])))
        return f"{self._folder.name}/{final.name}"


def even_spread(ranked: Sequence[T], count: int) -> list[T]:
    """Choose `count` items at equal distances, including the first and the last; for a count of 1, the middle one."""
    if count >= len(ranked):
        return list(ranked)
    if count == 1:
        return [ranked[len(ranked) // 2]]
    return [ranked[round(k * (len(ranked) - 1) / (count - 1))] for k in range(count)]
