"""Write the tables of all dimensions of a shard from the scores in its store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videodpo.config import validate
from videodpo.runtime import registry
from videodpo.runtime.failures import failed_so_far, refuse_too_many
from videodpo.runtime.locks import exclusive
from videodpo.runtime.settings import ScoreSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.score.stage import Snapshots, read_videos, score_shard
from videodpo.stages.score.store import Column, Measured, Store, store_path
from videodpo.storage.schemas import SCORES
from videodpo.storage.shard_list import NAME, write_shard_list
from videodpo.storage.tables import read_metadata, shard_path, write_table


def collect_all_shards(snapshots: Snapshots, videos: Path, scores: Path, prompts: Path | None = None) -> None:
    """Run `collect_shard` for all shards, then write `<scores>/<dimension>/shards.json` of every dimension.

    Args:
        snapshots: settings of all dimensions.
        videos: folder of the videos table.
        scores: folder of all dimensions' scores.
        prompts: as for `score_shard`.
    """
    for shard in range(int(read_metadata(shard_path(videos, 0))["num_shards"])):
        collect_shard(snapshots, shard_path(videos, shard), scores, prompts)
    for snapshot in snapshots:
        write_shard_list(scores / snapshot.settings.dimension / NAME)


def collect_shard(snapshots: Snapshots, videos: Path, scores: Path, prompts: Path | None = None) -> None:
    """Write `<scores>/<dimension>/shard-<number>.parquet` of every dimension, with rows in the order of the videos.

    A clip that could not be sampled, read or scored is a failed row with its reason. Clips that the store lacks are
    scored first; in a workflow there are none. See `score_shard` for the arguments and the errors.
    """
    metadata = read_metadata(videos)
    path = store_path(scores, int(metadata["shard"]))
    table = read_videos(videos, prompts)
    made = [video for video in table if video["status"] == "ok"]
    columns = [Column(snapshot) for snapshot in snapshots]
    store = Store(path)
    if any(store.get(column.key(video)) is None for column in columns for video in made):
        score_shard(snapshots, videos, scores, prompts)
        store = Store(path)
    for column in columns:
        out = shard_path(scores / column.dimension, int(metadata["shard"]))
        with exclusive(column.snapshot.folder, out):
            _write(column, table, store, out, metadata)


def _write(
    column: Column, videos: Sequence[Mapping[str, Any]], store: Store, path: Path, metadata: Mapping[str, str]
) -> None:
    label, rows = _label(column.snapshot), []
    for video in videos:
        measured = Measured(None, video["error"] or "the videos table has no reason", retry=False)
        if video["status"] == "ok":
            found = store.get(column.key(video))
            assert found is not None
            measured = found
        rows.append(
            {
                "video_id": video["video_id"],
                "prompt_id": video["prompt_id"],
                "dimension": column.dimension,
                "value": measured.value,
                "status": "failed" if measured.value is None else "ok",
                "error": measured.error,
                "scorer": label,
            }
        )
    snapshot = column.snapshot
    if not snapshot.settings.is_judge:  # shards scored at the same time did not see each other's failures
        failed = failed_so_far(rows, path, snapshot.digest)
        allowed = snapshot.execution.max_failed_fraction
        refuse_too_many(column.dimension, failed, int(metadata["num_videos"]), allowed)
    extra = {key: metadata[key] for key in ("num_shards", "shard")}
    write_table(path, rows, SCORES, **snapshot.provenance, extra=extra)


def _label(snapshot: Snapshot[ScoreSettings]) -> str:
    """Label of a scorer: name, version, and a digest of all its weights, or its service's version."""
    settings = snapshot.settings
    scorer = registry.load("videodpo.scorers", settings.scorer_name)
    digests = sorted(snapshot.weights.values())
    weights = scorer.service_version(validate(scorer.Options, settings.options, settings.dimension)) or "no-weights"
    if digests:
        weights = (digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest())[:12]
    return f"{settings.scorer_name} v{scorer.version} {weights}"
