"""Raw scores of every dimension to one omni preference score a video."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from videodpo.config import OmniScore, validate
from videodpo.failures import refuse_too_many
from videodpo.frozen import Frozen, OmniScoreSettings
from videodpo.tables import omniscore_schema, read_metadata, read_shards, read_table, shard_path, write_table

log = logging.getLogger(__name__)


def omniscore(raw: pd.DataFrame, config: OmniScore | Mapping[str, Any]) -> pd.DataFrame:
    """Scale raw scores and weigh them into pillars and the OmniScore.

    normalised = (raw - min) / (max - min); a pillar is the weighted mean of its dimensions; the OmniScore is
    the weighted mean of the two pillars (VBench's Total; arXiv 2412.14167, section 3.1).

    Args:
        raw: one row a video: `video_id`, `prompt_id`, `sample`, and `raw_<dimension>` for every dimension of
            `config`; further columns are passed over.
        config: the section `omniscore`, or a mapping like it.

    Returns:
        The columns of `tables.omniscore_schema` for the sorted dimensions, rows in the order of `raw`. A pillar
        without a weighted dimension (its own weight is then 0) is 0.0.

    Raises:
        ValueError: a column is missing, or a raw score is missing or not finite.
    """
    if not isinstance(config, OmniScore):
        config = validate(OmniScore, config, "omniscore")
    names = sorted(config.dimensions)
    needed = ["video_id", "prompt_id", "sample", *(f"raw_{name}" for name in names)]
    if absent := [column for column in needed if column not in raw.columns]:
        raise ValueError(
            f"raw scores: columns {absent} are missing; score these dimensions or take them out of omniscore"
        )
    table = raw[needed].reset_index(drop=True).astype({f"raw_{name}": np.float64 for name in names})
    table["sample"] = table["sample"].astype(np.int32)
    for name in names:
        scale, values = config.dimensions[name], table[f"raw_{name}"]
        unusable = ~np.isfinite(values)
        if unusable.any():
            raise ValueError(
                f"raw_{name}: video {table.video_id[unusable].iloc[0]!r} has no finite score; leave it out"
            )
        norm = (values - scale.min) / (scale.max - scale.min)
        table[f"norm_{name}"] = norm.clip(0.0, 1.0) if config.clip else norm
    for pillar in ("quality", "semantic"):
        # Column by column in the order of the names: the same bytes for every number of rows and threads.
        total, weights = np.zeros(len(table)), 0.0
        for name in (name for name in names if config.dimensions[name].pillar == pillar):
            total = total + config.dimensions[name].weight * table[f"norm_{name}"].to_numpy()
            weights += config.dimensions[name].weight
        table[pillar] = total / weights if weights else 0.0
    quality, semantic = config.pillars.quality, config.pillars.semantic
    table["omniscore"] = (quality * table["quality"] + semantic * table["semantic"]) / (quality + semantic)
    scored: pd.DataFrame = table[omniscore_schema(names).names]
    return scored


def aggregate(frozen: Frozen[OmniScoreSettings], round_folder: Path) -> None:
    """Read one round's videos and scores, and write its `omniscore.parquet`.

    Videos that failed, or failed in a dimension, are left out; the metadata's `num_left_out` counts them.

    Raises:
        RuntimeError: scores and videos do not match one to one, or more than `max_failed_fraction` is left out.
    """
    config = frozen.settings.omniscore
    names = sorted(config.dimensions)
    prompts_path = frozen.folder / "prompts.parquet"
    kept, num_left_out = scored_videos(round_folder, names, prompts_path, frozen.execution.max_failed_fraction)
    log.info("omniscore: %d videos, %d left out", len(kept), num_left_out)
    write_table(
        round_folder / "omniscore.parquet",
        omniscore(kept, config),
        omniscore_schema(names),
        stage="omniscore",
        digest=frozen.digest,
        seed=frozen.seed,
        extra={"num_left_out": str(num_left_out)},
    )


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
    asked = read_metadata(shard_path(round_folder / "videos", 0)).get("num_videos")
    if asked and int(asked) != len(videos):
        raise RuntimeError(f"{round_folder / 'videos'}: {len(videos)} rows of {asked} videos; make the videos again")
    wide = wide_table(videos, read_scores(round_folder / "scores", videos, dimensions))
    left_out = wide[wide.reason.notna()]
    failed = dict(zip(left_out.video_id, left_out.reason, strict=True))
    refuse_too_many("omniscore", failed, len(wide), max_failed_fraction)
    return in_prompt_order(wide[wide.reason.isna()], prompts_path), len(left_out)


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
        raise RuntimeError(f"the videos table has {_few(twice)} twice; make the videos again")
    tables = {}
    for name in dimensions:
        scores = read_shards(folder / name)
        if len(twice := scores.video_id[scores.video_id.duplicated()]):
            raise RuntimeError(f"{folder / name}: {_few(twice)} scored twice; delete the folder and score again")
        if absent := set(videos.video_id) - set(scores.video_id):
            raise RuntimeError(f"{folder / name}: no row for {_few(absent)}; run the scoring of {name} again")
        if unknown := set(scores.video_id) - set(videos.video_id):
            raise RuntimeError(f"{folder / name}: {_few(unknown)} not in the videos table; score the new videos again")
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
        raise RuntimeError(f"{prompts_path}: no row for prompt {rows.prompt_id[position.isna()].iloc[0]}")
    order = rows.assign(_position=position).sort_values(["_position", "sample"], kind="stable").index
    return rows.loc[order].reset_index(drop=True)


def _few(ids: Iterable[str]) -> str:
    names = sorted(set(ids))
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
