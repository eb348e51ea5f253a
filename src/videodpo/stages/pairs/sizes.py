"""The sizes of scored videos: the two of a pair have the same."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from videodpo.storage.schemas import CLIP_SIZE
from videodpo.storage.tables import map_shards, read_arrow


def read_size_labels(videos: Path, video_ids: pa.ChunkedArray) -> pa.StringArray | None:
    """Frames x height x width of each of these videos, as text; None where the round's clips have only one size.

    Args:
        videos: folder of the videos table.
    """
    clips = pa.concat_tables(map_shards(videos, lambda path: read_arrow(path, CLIP_SIZE)))
    if all(pc.count_distinct(column).as_py() <= 1 for column in clips.columns):  # failed clips have null
        return None
    ids = pa.chunked_array(
        [
            chunk
            for part in map_shards(videos, lambda path: read_arrow(path, ["video_id"])["video_id"])
            for chunk in part.chunks
        ]
    )
    labels = pc.binary_join_element_wise(*(column.cast(pa.string()) for column in clips.columns), " x ")
    return labels.take(pc.index_in(video_ids, ids)).combine_chunks()
