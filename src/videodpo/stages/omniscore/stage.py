"""The omniscore stage: one round's videos and scores to its `omniscore.parquet`, in memory that does not grow."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from videodpo.preference.formula import scale
from videodpo.preference.frames import refuse_missing_videos, scored_videos
from videodpo.runtime.failures import refuse_too_many
from videodpo.runtime.locks import writes
from videodpo.runtime.snapshot import OmniScoreSettings, Snapshot
from videodpo.stages.omniscore.shards import LeftOut, scored_parts
from videodpo.storage.in_order import OutOfOrder, one_ahead
from videodpo.storage.schemas import omniscore_schema
from videodpo.storage.tables import table_writer

log = logging.getLogger(__name__)


@writes("omniscore.parquet")
def aggregate(snapshot: Snapshot[OmniScoreSettings], round_folder: Path) -> None:
    """Read one round's videos and scores, and write its `omniscore.parquet`.

    Videos that failed, or failed in a dimension, are left out; the metadata's `num_left_out` counts them. Shards are
    read side by side where they hold the same videos in the order of the prompts, as the stages write them; any others
    are put in order in memory.

    Raises:
        RuntimeError: scores and videos do not match one to one, or more than `max_failed_fraction` is left out.
    """
    names, prompts = sorted(snapshot.settings.omniscore.dimensions), snapshot.folder / "prompts.parquet"
    allowed = snapshot.execution.max_failed_fraction
    left_out = LeftOut()

    def checked(parts: Iterator[pa.Table]) -> Iterator[pa.Table]:
        yield from parts
        refuse_missing_videos(round_folder / "videos", left_out.num_videos)
        refuse_too_many("omniscore", left_out.first, left_out.num_videos, allowed, num_failed=left_out.count)

    try:
        with one_ahead(scored_parts(round_folder, names, prompts, left_out)) as parts:
            num_videos = _write(snapshot, round_folder, checked(parts), left_out)
    except OutOfOrder as error:
        log.info("omniscore: %s: sorting in memory", error)
        frame, left_out.count = scored_videos(round_folder, names, prompts, allowed)
        num_videos = _write(snapshot, round_folder, [pa.Table.from_pandas(frame, preserve_index=False)], left_out)
    log.info("omniscore: %d videos, %d left out", num_videos, left_out.count)


def _write(
    snapshot: Snapshot[OmniScoreSettings], round_folder: Path, parts: Iterable[pa.Table], left_out: LeftOut
) -> int:
    """parts: `video_id`, `prompt_id`, `sample` and `raw_<dimension>`, all finite. Returns the number of rows."""
    config, num_videos = snapshot.settings.omniscore, 0
    schema = omniscore_schema(sorted(config.dimensions))
    path = round_folder / "omniscore.parquet"
    with table_writer(path, schema, stage="omniscore", digest=snapshot.digest, seed=snapshot.seed) as writer:
        for part in parts:
            columns = scale({name: part[f"raw_{name}"].to_numpy() for name in config.dimensions}, config)
            ids = {name: part[name] for name in ("video_id", "prompt_id", "sample")}
            writer.write(pa.table({name: {**ids, **columns}[name] for name in schema.names}, schema=schema))
            num_videos += part.num_rows
        writer.metadata["num_left_out"] = str(left_out.count)
    return num_videos
