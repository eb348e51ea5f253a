"""Sizes of scored videos; both videos of a pair must have the same size."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from videodpo.storage.schemas import CLIP_SIZE
from videodpo.storage.tables import find_rows, map_shards, read_arrow

_TEXT = pa.schema([(name, pa.string()) for name in CLIP_SIZE])


def read_size_labels(videos: Path, video_ids: pa.ChunkedArray) -> pa.StringArray | None:
    """Read frames x height x width of each video, as text; None if all clips of the round have the same size.

    Args:
        videos: folder of the videos table.
    """
    clips = _read(videos, CLIP_SIZE)
    if all(pc.count_distinct(column).as_py() <= 1 for column in clips.columns):  # failed clips have null
        return None
    rows = find_rows(video_ids, _read(videos, ["video_id"])["video_id"])
    return pc.binary_join_element_wise(*clips.cast(_TEXT).columns, " x ").take(rows).combine_chunks()


def _read(videos: Path, columns: Sequence[str]) -> pa.Table:
    return pa.concat_tables(map_shards(videos, partial(read_arrow, columns=columns)))
