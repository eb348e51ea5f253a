"""Videos of one round with their scores, matched one to one and sorted by prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from videodpo.config.errors import RunError
from videodpo.storage.tables import (
    encoded_column,
    find_rows,
    is_constant,
    map_shards,
    open_table,
    read_columns,
    read_metadata,
    read_prompts,
    shard_path,
    starts_of_runs,
    take_in_order,
)

_Encoded: TypeAlias = list[tuple[str, bytes]]


@dataclass(frozen=True)
class ScoredVideos:
    """Videos with their scores, sorted by prompt position, then by sample."""

    columns: dict[str, pa.ChunkedArray]
    """`video_id`, `prompt_id`, `sample`, and `raw_<dimension>` for each dimension; NaN if the score failed."""
    errors: dict[str, dict[str, str]]
    """Reason of each failure by video_id, for "generation" and for each dimension."""

    def reasons(self, dimensions: Iterable[str]) -> dict[str, str]:
        """First reason why a video cannot be used for these dimensions, by video_id."""
        found: dict[str, str] = {}
        for name in ("generation", *dimensions):
            found = {video_id: f"{name}: {error}" for video_id, error in self.errors[name].items()} | found
        return found


def read_scored(videos: Path, scores: Path, dimensions: Iterable[str], prompts: Path) -> ScoredVideos:
    """Read a videos table and the scores of each dimension.

    Args:
        videos: folder of the videos table.
        scores: folder that contains `<dimension>/shard-*.parquet`.
        dimensions: names of the dimensions to read.
        prompts: path of the prompts table.

    Raises:
        RunError: scores and videos do not match one to one, or a prompt is not in the prompts table.
    """
    shards = map_shards(videos, _read_clips)
    known = {shard_path(scores, k).name: (part["video_id"], stored) for k, (part, _, stored) in enumerate(shards)}
    clips = _in_prompt_order(pa.concat_tables([part for part, _, _ in shards]), prompts)
    asked = read_metadata(shard_path(videos, 0)).get("num_videos")
    if asked and int(asked) != clips.num_rows:
        raise RunError(f"{videos}: {clips.num_rows} rows for {asked} videos; re-run the stage generate")
    columns = dict(zip(clips.column_names, clips.columns, strict=True))
    errors = {"generation": _merged(errors for _, errors, _ in shards)}
    for name in dimensions:
        found = map_shards(scores / name, partial(_read_values, known=known))
        table = pa.concat_tables([part for part, _ in found])
        if not table["video_id"].equals(columns["video_id"]):
            table = _matched(table, columns["video_id"], scores / name)
        columns[f"raw_{name}"], errors[name] = table["value"], _merged(errors for _, errors in found)
    return ScoredVideos(columns, errors)


def _read_clips(path: Path) -> tuple[pa.Table, dict[str, str], _Encoded]:
    """Ids of one shard's videos, the errors of failed videos, and the encoded column of video ids."""
    names = ["video_id", "prompt_id", "sample"]
    with open_table(path) as file:
        encoded = encoded_column(file, path, "video_id")
        if is_constant(file, "status", "ok"):
            return read_columns(file, path, names), {}, encoded
        table = read_columns(file, path, [*names, "status", "error"])
    return table.select(names), _errors(table, pc.equal(table["status"], "ok")), encoded


def _read_values(path: Path, known: Mapping[str, tuple[pa.ChunkedArray, _Encoded]]) -> tuple[pa.Table, dict[str, str]]:
    """`video_id` and `value` of one shard's scores (NaN for failed scores), and the errors of failed scores.

    Args:
        path: path of the table.
        known: video ids of each shard of videos, by the shard's file name. If a shard's scores are of the same videos
            and none failed, these ids are reused, so that they are decoded and held in memory only once.
    """
    with open_table(path) as file:
        ids, encoded = known.get(path.name, (None, None))
        if is_constant(file, "status", "ok") and encoded_column(file, path, "video_id") == encoded:
            values = read_columns(file, path, ["value"])["value"].cast(pa.float64())
            if not values.null_count and pc.all(pc.is_finite(values)).as_py():
                return pa.table({"video_id": ids, "value": values}), {}
        table = read_columns(file, path, ["video_id", "value", "status", "error"])
    values = table["value"].cast(pa.float64()).fill_null(np.nan)
    usable = pc.and_(pc.equal(table["status"], "ok"), pc.is_finite(values))
    values = pc.if_else(usable, values, np.nan)
    return pa.table({"video_id": table["video_id"], "value": values}), _errors(table, usable)


def _errors(table: pa.Table, usable: pa.ChunkedArray) -> dict[str, str]:
    rows = table.filter(pc.invert(usable)).to_pylist()
    return {
        row["video_id"]: "the score is not a number" if row["status"] == "ok" else row["error"] or "failed"
        for row in rows
    }


def _merged(shards: Iterable[dict[str, str]]) -> dict[str, str]:
    return {video_id: error for errors in shards for video_id, error in errors.items()}


def _in_prompt_order(clips: pa.Table, path: Path) -> pa.Table:
    """Sort by the prompt's position, then by sample."""
    starts = starts_of_runs(clips["prompt_id"])
    owners = take_in_order(clips["prompt_id"], starts)
    positions = find_rows(owners, read_prompts(path)["prompt_id"])
    if positions.null_count:
        raise RunError(f"{path}: no row for prompt {owners.filter(positions.is_null())[0]}")
    lengths = np.diff(starts, append=clips.num_rows)
    keys = np.repeat(positions.to_numpy().astype(np.int64) << 32, lengths)
    keys += clips["sample"].to_numpy()
    if not (keys[1:] > keys[:-1]).all():
        order = np.argsort(keys, kind="stable")
        clips, keys = clips.take(pa.array(order)), keys[order]
    if (twice := np.flatnonzero(keys[1:] == keys[:-1])).size:
        raise RunError(
            f"the videos table has {_few(clips['video_id'].take(pa.array(twice)))} twice; re-run the stage generate"
        )
    return clips


def _matched(table: pa.Table, video_ids: pa.ChunkedArray, folder: Path) -> pa.Table:
    """Sort the rows of a scores table in the order of the videos."""
    if twice := _repeated(video_ids):
        raise RunError(f"the videos table has {twice} twice; re-run the stage generate")
    if twice := _repeated(table["video_id"]):
        raise RunError(f"{folder}: {twice} was scored twice; delete the folder and score again")
    rows = pc.index_in(video_ids, table["video_id"])
    if rows.null_count:
        absent = video_ids.filter(rows.is_null())
        raise RunError(f"{folder}: no row for {_few(absent)}; re-run the scoring of {folder.name}")
    if table.num_rows > len(video_ids):
        unknown = table["video_id"].filter(pc.invert(pc.is_in(table["video_id"], video_ids)))
        raise RunError(f"{folder}: {_few(unknown)} not in the videos table; re-run the scoring of {folder.name}")
    return table.take(rows)


def _repeated(ids: pa.ChunkedArray) -> str:
    found = pc.value_counts(ids)
    return _few(found.filter(pc.greater(found.field("counts"), 1)).field("values"))


def _few(ids: pa.Array | pa.ChunkedArray) -> str:
    names = sorted(set(ids.to_pylist()))
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
