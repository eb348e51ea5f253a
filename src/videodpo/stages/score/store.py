"""What has been measured of one shard's clips: values by clip and scorer, in one file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from videodpo.runtime import registry
from videodpo.runtime.snapshot import ScoreSettings, Snapshot
from videodpo.storage.journal import Journal
from videodpo.storage.schemas import MEASURED
from videodpo.storage.tables import read_rows, write_table


class Key(NamedTuple):
    """A clip by its bytes, a scorer by its version, options and weights."""

    video_id: str
    sha256: str
    dimension: str
    scorer_digest: str


class Measured(NamedTuple):
    """A score, or why there is none, and whether another try may find one."""

    value: float | None
    error: str | None
    retry: bool


class Store:
    """Everything ever measured of a shard's present clips: an earlier scorer's values are found again.

    All dimensions lie in one file, so that a job killed between two blocks has either all of a block or nothing of it.
    What is new is in a journal beside it until the job's end. No workflow engine knows the files, so none deletes them
    when a job fails or is done again.
    """

    def __init__(self, path: Path, videos: Sequence[Mapping[str, Any]]) -> None:
        """videos: the shard's rows; what is known of other clips is forgotten."""
        self.path = path
        present = {(video["video_id"], video["sha256"]) for video in videos}
        columns = [*Key._fields, *Measured._fields]
        # The journal first: its lines are in the table before it is removed, perhaps by a job that is at work now.
        self._journal = Journal(path.with_suffix(".jsonl"), columns)
        self._known: dict[Key, Measured] = {}
        self._new: list[dict[str, Any]] = []
        for row in chain(read_rows(path, columns) if path.exists() else [], *self._journal.found):
            if (row["video_id"], row["sha256"]) in present:
                key = Key(*(row[name] for name in Key._fields))
                self._put(key, Measured(*(row[name] for name in Measured._fields)))
        self._saved = not self._journal.found

    def get(self, key: Key) -> Measured | None:
        return self._known.get(key)

    def lacks(self, key: Key) -> bool:
        """Whether it was never measured, or another try may find a score."""
        known = self._known.get(key)
        return known is None or known.retry

    def put(self, key: Key, measured: Measured) -> None:
        """Keep what was measured; a score that is known already stays, to the bit."""
        if self._put(key, measured):
            self._new.append(_row(key, measured))
            self._saved = False

    def _put(self, key: Key, measured: Measured) -> bool:
        if not self.lacks(key):
            return False
        self._known[key] = measured
        return True

    def checkpoint(self) -> None:
        """What was put since the last one survives a kill."""
        self._journal.append(self._new)
        self._new = []

    def save(self) -> None:
        """As one table, where anything is new; the journal ends with it."""
        if not self._saved:
            rows = [_row(key, measured) for key, measured in sorted(self._known.items())]
            write_table(self.path, rows, MEASURED, stage="score", digest="", seed=0)
            self._saved = True
        self._journal.remove()


def _row(key: Key, measured: Measured) -> dict[str, Any]:
    return {**key._asdict(), **measured._asdict()}


class Column:
    """One scorer's keys."""

    def __init__(self, snapshot: Snapshot[ScoreSettings]) -> None:
        self.snapshot = snapshot
        self.dimension = snapshot.settings.dimension
        version = registry.load("videodpo.scorers", self.dimension).version
        what = [self.dimension, version, snapshot.settings.options, sorted(snapshot.weights.items())]
        self.digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def key(self, video: Mapping[str, Any]) -> Key:
        """Of a video that was made."""
        return Key(video["video_id"], video["sha256"], self.dimension, self.digest)


def store_path(scores: Path, shard: int) -> Path:
    """Where the store of one shard lies, in the folder of all dimensions' scores; no scorer can have this name."""
    return scores / "by-clip" / f"shard-{shard:05d}.parquet"
