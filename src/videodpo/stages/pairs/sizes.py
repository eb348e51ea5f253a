"""The sizes of scored videos: the two of a pair have the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from videodpo.stages.pairs.candidates import Sizes
from videodpo.storage.in_order import Follower, OutOfOrder
from videodpo.storage.row_groups import read_parts
from videodpo.storage.schemas import CLIP_SIZE, ClipSize
from videodpo.storage.tables import count_shards, read_sizes, read_table, shard_path


def read_round_sizes(videos: Path, omniscore: Path) -> Sizes | None:
    """The size of every row of the omniscore table, or None where the round's clips have only one.

    Args:
        videos: folder of the videos table. omniscore: the omniscore table.
    """
    shards = [shard_path(videos, shard) for shard in range(count_shards(videos))]
    if all(_have_one_value(shards, column) for column in CLIP_SIZE):
        return None  # those without a size are failed clips, which have no score
    try:
        return _side_by_side(shards, omniscore)
    except OutOfOrder:
        return sizes_of(read_table(omniscore, ["video_id"])["video_id"].tolist(), read_sizes(videos))


def sizes_of(video_ids: Sequence[str], sizes: Mapping[str, ClipSize]) -> Sizes:
    """video_ids: in the order of their rows. sizes: by video_id."""
    known = {size: code for code, size in enumerate(dict.fromkeys(sizes[name] for name in video_ids))}
    return Sizes(list(known), np.array([known[sizes[name]] for name in video_ids], dtype=np.int16))


def _have_one_value(shards: Sequence[Path], column: str) -> bool:
    bounds = [pc.min_max(part[column]).as_py() for path in shards for part in read_parts(path, [column])]
    found = {value for bound in bounds for value in bound.values() if value is not None}
    return len(found) <= 1


def _side_by_side(shards: Sequence[Path], omniscore: Path) -> Sizes:
    """Raises OutOfOrder where the two tables differ in their order."""
    known: dict[ClipSize, int] = {}
    codes = [_codes(part, known) for path in shards for part in read_parts(path, CLIP_SIZE)]
    follower = Follower(part["video_id"] for path in shards for part in read_parts(path, ["video_id"]))
    indices = [follower.indices(part["video_id"]) for part in read_parts(omniscore, ["video_id"])]
    return Sizes(list(known), np.concatenate(codes)[np.concatenate(indices)])


def _codes(clips: pa.Table, known: dict[ClipSize, int]) -> np.ndarray:
    """Of every clip its size's number in `known`, which grows."""
    columns = [clips[name].fill_null(-1).to_numpy() for name in CLIP_SIZE]
    sizes, which = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    names = [tuple(None if side < 0 else side for side in size) for size in sizes.tolist()]
    return np.array([known.setdefault(name, len(known)) for name in names], dtype=np.int16)[which]
