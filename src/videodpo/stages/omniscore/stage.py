"""OmniScore stage: compute `omniscore.parquet` from one round's videos and scores."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videodpo.preference.formula import prompt_groups, scale
from videodpo.runtime.failures import NUM_LISTED, refuse_too_many
from videodpo.runtime.locks import writes
from videodpo.runtime.settings import OmniScoreSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.manifests import edited_inputs
from videodpo.storage.schemas import omniscore_schema
from videodpo.storage.scores import read_scored
from videodpo.storage.tables import row_groups, take_in_order, write_row_groups

log = logging.getLogger(__name__)


@writes("omniscore.parquet")
def aggregate(snapshot: Snapshot[OmniScoreSettings], round_folder: Path) -> None:
    """Read one round's videos and scores, and write its `omniscore.parquet`.

    Videos that failed, or that failed in a dimension, are left out; `num_left_out` in the metadata counts them.

    Raises:
        RuntimeError: scores and videos do not match one to one, or more than `max_failed_fraction` is left out.
    """
    config = snapshot.settings.omniscore
    names, prompts = sorted(config.dimensions), snapshot.folder / "prompts.parquet"
    videos, usable = scored_videos(round_folder, names, prompts, snapshot.execution.max_failed_fraction)
    num_used = int(np.count_nonzero(usable))
    schema = omniscore_schema(names)

    # A prompt's clips may be in two row groups, so its statistics are computed before the table is cut.
    groups = None
    if config.scaling == "prompt_group":
        videos = videos.append_column("prompt", videos["prompt_id"].combine_chunks().dictionary_encode().indices)
        used = videos.filter(pa.array(usable))
        raw = {name: used[f"raw_{name}"].to_numpy() for name in names}
        groups = prompt_groups(raw, used["prompt"].to_numpy(), config)

    def scaled(part: pa.Table) -> pa.Table:
        own = replace(groups, codes=part["prompt"].to_numpy()) if groups else None
        columns = scale({name: part[f"raw_{name}"].to_numpy() for name in names}, config, own)
        columns |= {name: part[name] for name in ("video_id", "prompt_id", "sample")}
        return pa.table({name: columns[name] for name in schema.names}, schema=schema)

    write_row_groups(
        round_folder / "omniscore.parquet",
        map(scaled, row_groups(videos, usable)),
        schema,
        **snapshot.provenance,
        extra={"num_left_out": str(len(usable) - num_used), **edited_inputs(snapshot.folder / "prompts.parquet")},
    )
    log.info("omniscore: %d videos, %d left out", num_used, len(usable) - num_used)


def scored_videos(
    round_folder: Path, dimensions: Iterable[str], prompts: Path, max_failed_fraction: float
) -> tuple[pa.Table, NDArray[np.bool_]]:
    """Read the videos of a round with their scores in the given dimensions.

    Args:
        round_folder: folder of the round.
        dimensions: names of the dimensions.
        prompts: path of the prompts table.
        max_failed_fraction: largest share of videos that may be left out.

    Returns:
        Columns `video_id`, `prompt_id`, `sample` and `raw_<dimension>`, in the order of the prompts, then of the
        samples; and for each row whether it has a score in all dimensions.

    Raises:
        RuntimeError: scores and videos do not match one to one, or more than `max_failed_fraction` is left out.
    """
    found = read_scored(round_folder / "videos", round_folder / "scores", dimensions, prompts)
    columns, reasons = found.columns, found.reasons(dimensions)
    usable = np.ones(len(columns["video_id"]), dtype=bool)
    if reasons:
        usable = ~pc.is_in(columns["video_id"], pa.array(list(reasons))).to_numpy()
    failed = np.flatnonzero(~usable)
    first = take_in_order(columns["video_id"], failed[:NUM_LISTED]).to_pylist()
    refuse_too_many(
        "omniscore",
        {video_id: reasons[video_id] for video_id in first},
        len(usable),
        max_failed_fraction,
        num_failed=len(failed),
    )
    return pa.table(columns), usable
