"""Shards of videos and of their scores, side by side, a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videodpo.runtime.failures import NUM_LISTED
from videodpo.storage.in_order import Follower, OutOfOrder, prompts_in_order, starts_of_runs
from videodpo.storage.row_groups import RowGroups
from videodpo.storage.tables import count_shards, shard_path


@dataclass
class LeftOut:
    """Videos that cannot be used."""

    num_videos: int = 0
    """With those that can."""
    count: int = 0
    first: dict[str, str] = field(default_factory=dict)
    """A few of them, and why."""

    def add(self, video_ids: pa.ChunkedArray, reasons: dict[int, str]) -> None:
        """video_ids: of a part. reasons: row of the part, and what is wrong with it."""
        self.num_videos += len(video_ids)
        self.count += len(reasons)
        for row in sorted(reasons)[: NUM_LISTED - len(self.first)]:
            self.first[video_ids[row].as_py()] = reasons[row]


def scored_parts(round_folder: Path, dimensions: Sequence[str], prompts: Path, left_out: LeftOut) -> Iterator[pa.Table]:
    """The videos that have a score in every one of these dimensions, a row group of a shard at a time.

    Args:
        dimensions: sorted names. prompts: the prompts table. left_out: gets the other videos.

    Yields:
        `video_id`, `prompt_id`, `sample` and `raw_<dimension>`, in the order of the prompts, then of the samples.

    Raises:
        OutOfOrder: shards of videos and scores do not have the same videos, or not in that order.
    """
    videos = round_folder / "videos"
    folders = {name: round_folder / "scores" / name for name in dimensions}
    num_shards = count_shards(videos)
    for folder in folders.values():
        if count_shards(folder) != num_shards:
            raise OutOfOrder(f"{folder}: not the shards of {videos}")
    order = _Order(prompts)
    for shard in range(num_shards):
        clips = RowGroups(shard_path(videos, shard))
        scores = {name: RowGroups(shard_path(folder, shard)) for name, folder in folders.items()}
        for number in range(len(clips)):
            rows = clips.read(number, ["video_id", "prompt_id", "sample"])
            order.check(rows, clips.path)
            reasons, stored = _not_made(clips, number), clips.stored(number, "video_id")
            for name, table in scores.items():
                if len(table) != len(clips) or not (
                    table.stored(number, "video_id") == stored
                    or table.read(number, ["video_id"])["video_id"].equals(rows["video_id"])
                ):
                    raise OutOfOrder(f"{table.path}: not the videos of {clips.path}")
                values, errors = _values(table, number)
                rows = rows.append_column(f"raw_{name}", pa.array(values))
                reasons = {row: f"{name}: {error}" for row, error in errors.items()} | reasons
            left_out.add(rows["video_id"], reasons)
            if reasons:
                usable = np.ones(rows.num_rows, dtype=bool)
                usable[list(reasons)] = False
                rows = rows.filter(pa.array(usable))
            yield rows


def _not_made(clips: RowGroups, number: int) -> dict[int, str]:
    """Row: why the clip could not be made."""
    if clips.only(number, "status") == "ok":
        return {}
    table = clips.read(number, ["status", "error"])
    failed = np.flatnonzero(pc.not_equal(table["status"], "ok").to_numpy())
    return {int(row): f"generation: {table['error'][int(row)].as_py() or 'failed'}" for row in failed}


def _values(scores: RowGroups, number: int) -> tuple[NDArray[np.float64], dict[int, str]]:
    """Raw scores, and for the rows without one the reason."""
    values = scores.read(number, ["value"])["value"].to_numpy().astype(np.float64)
    usable = np.isfinite(values)
    if usable.all() and scores.only(number, "status") == "ok":
        return values, {}
    table = scores.read(number, ["status", "error"])
    is_ok = pc.equal(table["status"], "ok").to_numpy()
    errors = {
        int(row): "the score is not a number" if is_ok[row] else table["error"][int(row)].as_py() or "failed"
        for row in np.flatnonzero(~(usable & is_ok))
    }
    return values, errors


class _Order:
    """Whether videos come in the order of the prompts' positions, those of one prompt by sample."""

    def __init__(self, prompts: Path) -> None:
        self._prompts = Follower(part["prompt_id"] for part in prompts_in_order(prompts))
        self._last: tuple[str, int] | None = None
        """The last video's prompt and sample."""

    def check(self, videos: pa.Table, path: Path) -> None:
        if not videos.num_rows:
            return
        ids, samples = videos["prompt_id"], videos["sample"].to_numpy()
        starts = starts_of_runs(ids)
        rises = np.diff(samples) > 0
        rises[starts[1:] - 1] = True
        goes_on = self._last is not None and ids[0].as_py() == self._last[0]
        if not rises.all() or (self._last is not None and goes_on and samples[0] <= self._last[1]):
            raise OutOfOrder(f"{path}: the samples of a prompt are not in order")
        self._prompts.indices(ids.take(pa.array(starts[1:] if goes_on else starts)))
        self._last = (ids[-1].as_py(), int(samples[-1]))
