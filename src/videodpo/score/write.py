"""One dimension's table of a shard, from what its store has."""

from __future__ import annotations

import hashlib
from pathlib import Path

from videodpo import registry
from videodpo.config import validate
from videodpo.frozen import Frozen, ScoreSettings
from videodpo.score.measure import measure_shard
from videodpo.score.store import Measured, Store, key_of, store_path
from videodpo.tables import SCORES, read_metadata, read_rows, shard_path, write_table


def score_shard(frozen: Frozen[ScoreSettings], videos: Path, scores: Path) -> None:
    """Write `<scores>/<dimension>/shard-<number>.parquet`, rows in the order of the videos.

    A clip that could not be made, read or scored is a failed row with its reason. What the store lacks (in a workflow
    nothing) is measured first.

    Args and errors: as `measure_shard`.
    """
    metadata = read_metadata(videos)
    shard = int(metadata["shard"])
    table = read_rows(videos)
    made = [video for video in table if video["status"] == "ok"]
    if any(Store(store_path(scores, shard), made).get(key_of(video, frozen)) is None for video in made):
        measure_shard([frozen], videos, scores)
    store = Store(store_path(scores, shard), made)
    label, rows = _label(frozen), []
    for video in table:
        measured = Measured(None, video["error"] or "the videos table has no reason")
        if video["status"] == "ok":
            found = store.get(key_of(video, frozen))
            assert found is not None
            measured = found
        rows.append(
            {
                "video_id": video["video_id"],
                "prompt_id": video["prompt_id"],
                "dimension": frozen.settings.dimension,
                "value": measured.value,
                "status": "failed" if measured.error else "ok",
                "error": measured.error,
                "scorer": label,
            }
        )
    write_table(
        shard_path(scores / frozen.settings.dimension, shard),
        rows,
        SCORES,
        stage=frozen.stage,
        digest=frozen.digest,
        seed=frozen.seed,
        extra={key: metadata[key] for key in ("num_shards", "shard")},
    )


def _label(frozen: Frozen[ScoreSettings]) -> str:
    """Name, version and digest of all weights' bytes (`hub:` names as they are)."""
    kind = registry.load("videodpo.scorers", frozen.settings.dimension)
    named = kind.weights(validate(kind.Options, frozen.settings.options, f"scores.{frozen.settings.dimension}"))
    digests = sorted(frozen.weights.values())
    weights = " ".join(named) or "no-weights"
    if digests:
        weights = (digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest())[:12]
    return f"{frozen.settings.dimension} v{kind.version} {weights}"
