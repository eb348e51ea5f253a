"""Store of one shard's scores, by clip and scorer, in one progress log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from videodpo.runtime import registry
from videodpo.runtime.settings import ScoreSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.progress import Progress

_FORMAT = 1  # format version of a line in the log


class Key(NamedTuple):
    """Identifies a clip by its bytes, and a scorer by its version, options and weights."""

    video_id: str
    sha256: str
    dimension: str
    scorer_digest: str


class Measured(NamedTuple):
    """A score, or the reason why there is none, and whether a retry may give one."""

    value: float | None
    error: str | None
    retry: bool


class Store:
    """Cache of all scores ever measured for a shard's clips, so that those of an earlier scorer can be reused.

    One log contains all dimensions, so that a killed job has saved either all scores of a block or none. The file is
    not an output of the rule, so Snakemake does not delete it when a job fails or is re-run.

    Attributes:
        known: everything in the log, and everything added since.
        temporary: keys that at some time had no score for a temporary reason.
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
        """Return what was measured for the key; None if nothing was."""
        return self.known.get(key)

    def lacks(self, key: Key) -> bool:
        """True if there is no score for the key yet, and a first try or a retry may give one."""
        known = self.known.get(key)
        return known is None or known.retry

    def put(self, key: Key, measured: Measured) -> None:
        """Add a measured score; a score that is already known is never replaced."""
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
        """Save everything added since the last call, so that it survives a kill."""
        if not self._new:
            return
        clips = list(dict.fromkeys((key.video_id, key.sha256) for key in self._new))
        scorers = dict.fromkeys((key.dimension, key.scorer_digest) for key in self._new)
        columns = {" ".join(scorer): [self._new.get(Key(*clip, *scorer)) for clip in clips] for scorer in scorers}
        self._progress.append({"clips": clips, "scores": columns})
        self._new = {}


class Column:
    """Keys of one scorer's scores."""

    def __init__(self, snapshot: Snapshot[ScoreSettings]) -> None:
        self.snapshot = snapshot
        self.dimension = snapshot.settings.dimension
        scorer = registry.load("videodpo.scorers", name := snapshot.settings.scorer_name)
        options = {
            key: value for key, value in snapshot.settings.options.items() if key not in scorer.options_without_effect
        }
        what = [name, scorer.version, options, sorted(snapshot.weights.items())]
        self.digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def key(self, video: Mapping[str, Any]) -> Key:
        """Key of a finished video; `info` is what a benchmark says about its prompt."""
        content = " ".join(filter(None, [video["sha256"], video.get("info")]))
        return Key(video["video_id"], content, self.dimension, self.digest)


def store_path(scores: Path, shard: int) -> Path:
    """Path of one shard's log, in the folder of all dimensions' scores; no scorer can have the name `by-clip`."""
    return scores / "by-clip" / f"shard-{shard:05d}.jsonl"
