"""Videos and their scores as frames in memory: for the evaluation, for trials, and for tables in any order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from videodpo.config.errors import RunError
from videodpo.runtime.failures import refuse_too_many
from videodpo.storage.tables import read_metadata, read_shards, read_table, shard_path


def scored_videos(
    round_folder: Path, dimensions: Iterable[str], prompts_path: Path, max_failed_fraction: float
) -> tuple[pd.DataFrame, int]:
    """The videos that have a score in every one of these dimensions, and how many are left out.

    Returns:
        What `omniscore` takes, in the order of the prompts, then of the samples; and the count.

    Raises:
        RuntimeError: scores and videos do not match one to one, or more than `max_failed_fraction` is left out.
    """
    videos = read_shards(round_folder / "videos")
    refuse_missing_videos(round_folder / "videos", len(videos))
    wide = wide_table(videos, read_scores(round_folder / "scores", videos, dimensions))
    left_out = wide[wide.reason.notna()]
    failed = dict(zip(left_out.video_id, left_out.reason, strict=True))
    refuse_too_many("omniscore", failed, len(wide), max_failed_fraction)
    return in_prompt_order(wide[wide.reason.isna()], prompts_path), len(left_out)


def refuse_missing_videos(folder: Path, num_rows: int) -> None:
    """Raises RuntimeError where a videos table of so many rows is not all that was asked for."""
    asked = read_metadata(shard_path(folder, 0)).get("num_videos")
    if asked and int(asked) != num_rows:
        raise RunError(f"{folder}: {num_rows} rows of {asked} videos; make the videos again")


def read_scores(folder: Path, videos: pd.DataFrame, dimensions: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Scores of each dimension, checked against the videos: exactly one row for every video.

    Args:
        folder: holds `<dimension>/shard-*.parquet`. videos: the videos table. dimensions: names to read.

    Returns:
        Dimension: a frame in the order of `videos` with `value` (NaN where failed) and `error` (None where ok).

    Raises:
        RuntimeError: a video has no score or two, or a score has no video.
    """
    if len(twice := videos.video_id[videos.video_id.duplicated()]):
        raise RunError(f"the videos table has {_few(twice)} twice; make the videos again")
    tables = {}
    for name in dimensions:
        scores = read_shards(folder / name)
        if len(twice := scores.video_id[scores.video_id.duplicated()]):
            raise RunError(f"{folder / name}: {_few(twice)} scored twice; delete the folder and score again")
        if absent := set(videos.video_id) - set(scores.video_id):
            raise RunError(f"{folder / name}: no row for {_few(absent)}; run the scoring of {name} again")
        if unknown := set(scores.video_id) - set(videos.video_id):
            raise RunError(f"{folder / name}: {_few(unknown)} not in the videos table; score the new videos again")
        scores = scores.set_index("video_id").loc[videos.video_id].reset_index()
        usable = (scores.status == "ok") & np.isfinite(scores.value.astype(float))
        error = scores.error.where(scores.status != "ok", "the score is not a number").fillna("failed")
        tables[name] = pd.DataFrame(
            {"value": scores.value.astype(float).where(usable), "error": error.astype(object).where(~usable, None)}
        )
    return tables


def wide_table(videos: pd.DataFrame, scores: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a video: `video_id`, `prompt_id`, `sample`, `raw_<dimension>`, and why it cannot be used.

    Args:
        videos: the videos table. scores: as `read_scores` gives them.

    Returns:
        Rows in the order of `videos`; `reason` is None where the clip and all its scores are there.
    """
    wide = videos[["video_id", "prompt_id", "sample"]].reset_index(drop=True)
    made = videos.status.reset_index(drop=True) == "ok"
    reason = ("generation: " + videos.error.reset_index(drop=True).fillna("failed")).astype(object).where(~made, None)
    for name, table in scores.items():
        wide[f"raw_{name}"] = table.value
        failed = table.error.notna() & reason.isna()
        reason = reason.where(~failed, f"{name}: " + table.error.fillna("").astype(str))
    wide["reason"] = reason
    return wide


def in_prompt_order(rows: pd.DataFrame, prompts_path: Path) -> pd.DataFrame:
    """Rows sorted by their prompt's position in the prompts table, then by sample.

    Raises:
        RuntimeError: a prompt is not in that table.
    """
    prompts = read_table(prompts_path, ["prompt_id", "position"]).set_index("prompt_id").position
    position = rows.prompt_id.map(prompts)
    if position.isna().any():
        raise RunError(f"{prompts_path}: no row for prompt {rows.prompt_id[position.isna()].iloc[0]}")
    order = rows.assign(_position=position).sort_values(["_position", "sample"], kind="stable").index
    return rows.loc[order].reset_index(drop=True)


def _few(ids: Iterable[str]) -> str:
    names = sorted(set(ids))
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
