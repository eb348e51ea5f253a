"""Tar shards for WebDataset: `<key>.winner.mp4`, `<key>.loser.mp4` and `<key>.json` of each pair."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from videodpo.storage.clips import write_tar
from videodpo.tools.export.pairs import ExportedPairs, Pair

PAIRS_A_SHARD = 1000


def write_webdataset(pairs: ExportedPairs, folder: Path) -> None:
    """Write shards of `PAIRS_A_SHARD` pairs in the order of the pairs."""
    for shard, start in enumerate(range(0, len(pairs.rows), PAIRS_A_SHARD)):
        part = pairs.rows[start : start + PAIRS_A_SHARD]
        write_tar(folder / f"pairs-{shard:06d}.tar", _members(part, start))


def _members(pairs: Sequence[Pair], start: int) -> Iterator[tuple[str, bytes]]:
    for number, pair in enumerate(pairs, start):
        key = f"{number:08d}"
        text = json.dumps(pair.values(), ensure_ascii=False, allow_nan=False)
        yield f"{key}.json", text.encode()
        yield f"{key}.winner.mp4", pair.winner.content()
        yield f"{key}.loser.mp4", pair.loser.content()
