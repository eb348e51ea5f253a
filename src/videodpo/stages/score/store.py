"""Scores of one shard's clips by clip and scorer, in one progress log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from videodpo.runtime import registry
from videodpo.runtime.snapshot import ScoreSettings, Snapshot
from videodpo.storage.progress import Progress

_FORMAT = 1  # of a line in the log


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
    """All scores that were ever measured of a shard's clips, so that those of an earlier scorer are found again.

    One log holds all dimensions: a job killed between two blocks has either all scores of a block or none. The workflow
    engine does not know the file, so it does not delete it when a job fails or runs again.

    Attributes:
        known: everything that the log has, and what was put since.
        temporary: keys that had no score at some time, for a reason that may pass.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._progress = Progress(path, _FORMAT)
        self.known: dict[Key, Measured] = {}
        self.temporary: set[Key] = set()
        self._new: dict[Key, Measured] = {}
        for block in self._progress.finished:
            for scorer, column in block["scores"].items():
                for clip, measured in zip(block["clips"], column, strict=True):
                    if measured is not None:
                        self._put(Key(*clip, *scorer.split(" ")), Measured(*measured))

    def get(self, key: Key) -> Measured | None:
        return self.known.get(key)

    def lacks(self, key: Key) -> bool:
        """True if it was never measured, or if another try may find a score."""
        known = self.known.get(key)
        return known is None or known.retry

    def put(self, key: Key, measured: Measured) -> None:
        """Keep what was measured; a score that is known already stays, to the bit."""
        if self._put(key, measured):
            self._new[key] = measured

    def _put(self, key: Key, measured: Measured) -> bool:
        if not self.lacks(key):
            return False
        self.known[key] = measured
        if measured.retry:
            self.temporary.add(key)
        return True

    def save(self) -> None:
        """Make all that was put since the last call survive a kill."""
        if not self._new:
            return
        clips = list(dict.fromkeys((key.video_id, key.sha256) for key in self._new))
        scorers = dict.fromkeys((key.dimension, key.scorer_digest) for key in self._new)
        columns = {" ".join(scorer): [self._new.get(Key(*clip, *scorer)) for clip in clips] for scorer in scorers}
        self._progress.append({"clips": clips, "scores": columns})
        self._new = {}


class Column:
    """The keys of one scorer."""

    def __init__(self, snapshot: Snapshot[ScoreSettings]) -> None:
        self.snapshot = snapshot
        self.dimension = snapshot.settings.dimension
        version = registry.load("videodpo.scorers", self.dimension).version
        what = [self.dimension, version, snapshot.settings.options, sorted(snapshot.weights.items())]
        self.digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def key(self, video: Mapping[str, Any]) -> Key:
        """Key of a video that was made."""
        return Key(video["video_id"], video["sha256"], self.dimension, self.digest)


def store_path(scores: Path, shard: int) -> Path:
    """Log of one shard, in the folder of all dimensions' scores; no scorer can have this name."""
    return scores / "by-clip" / f"shard-{shard:05d}.jsonl"
