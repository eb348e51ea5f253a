"""What has been measured of one shard's clips: values by clip and scorer, in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from videodpo.frozen import Frozen, ScoreSettings
from videodpo.tables import MEASURED, read_rows, write_table


class Key(NamedTuple):
    """A clip by its bytes, a scorer by its settings and weights."""

    video_id: str
    sha256: str
    dimension: str
    scorer_digest: str


class Measured(NamedTuple):
    """A score, or why there is none."""

    value: float | None
    error: str | None


class Store:
    """Everything ever measured of a shard's present clips: an earlier scorer's values are found again.

    All dimensions lie in one file, so that a job killed between two batches has either all of a batch or nothing of it.
    No workflow engine knows the file, so none deletes it when a job fails or is done again.
    """

    def __init__(self, path: Path, videos: Sequence[Mapping[str, Any]]) -> None:
        """videos: the shard's rows; what is known of other clips is forgotten."""
        self.path = path
        present = {(video["video_id"], video["sha256"]) for video in videos}
        rows = read_rows(path) if path.exists() else []
        self._known = {
            Key(*(row[name] for name in Key._fields)): Measured(row["value"], row["error"])
            for row in rows
            if (row["video_id"], row["sha256"]) in present
        }

    def get(self, key: Key) -> Measured | None:
        return self._known.get(key)

    def put(self, key: Key, measured: Measured) -> None:
        self._known[key] = measured

    def save(self) -> None:
        rows = [{**key._asdict(), **measured._asdict()} for key, measured in sorted(self._known.items())]
        write_table(self.path, rows, MEASURED, stage="score", digest="", seed=0)


def store_path(scores: Path, shard: int) -> Path:
    """Where the store of one shard lies, in the folder of all dimensions' scores."""
    return scores / "measured" / f"shard-{shard:05d}.parquet"


def key_of(video: Mapping[str, Any], frozen: Frozen[ScoreSettings]) -> Key:
    """Of a video that was made."""
    return Key(video["video_id"], video["sha256"], frozen.settings.dimension, frozen.digest)
