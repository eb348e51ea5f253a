"""Pairs stage: choose `pairs.parquet` and `pairs_rejected.parquet` from the omniscore table, or import them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from videodpo.config.errors import RunError
from videodpo.preference.filters import columns_for
from videodpo.preference.pairs import choose_pairs
from videodpo.runtime.locks import writes
from videodpo.runtime.settings import PairsSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.pairs.imported import import_pairs
from videodpo.stages.pairs.sizes import read_size_labels
from videodpo.stages.pairs.votes import read_votes
from videodpo.storage.manifests import edited_inputs
from videodpo.storage.schemas import PAIRS, PAIRS_REJECTED
from videodpo.storage.tables import find_rows, read_arrow, read_prompts, starts_of_runs, take_in_order, write_table

log = logging.getLogger(__name__)


@writes("pairs.parquet")
def select_pairs(snapshot: Snapshot[PairsSettings], round_folder: Path) -> None:
    """Pair the videos of every prompt and weight the pairs; write each training prompt to one table or both.

    Raises:
        InputError: no pair is left; the message counts the reasons. Or `pairs.labels` names votes on other clips.
        RunError: the omniscore table is not in the order of the prompts.
    """
    if snapshot.settings.imported_for is not None:
        import_pairs(snapshot, round_folder)
        return
    settings, path = snapshot.settings.pairs, round_folder / "omniscore.parquet"
    scores = read_arrow(path, ["video_id", "prompt_id", "omniscore", *columns_for(settings)])
    without_videos = _prompts_without_videos(scores, path, snapshot.folder / "prompts.parquet")
    sizes = read_size_labels(round_folder / "videos", scores["video_id"])
    votes = read_votes(settings.labels, round_folder)
    pairs, rejected = choose_pairs(scores, sizes, settings, snapshot.seed, votes)
    rejected = pa.concat_tables([rejected, without_videos])
    labels = [Path(settings.labels.path)] if settings.labels.path else []
    extra = edited_inputs(path, snapshot.folder / "prompts.parquet", *labels)
    for name, table, schema in (("pairs_rejected", rejected, PAIRS_REJECTED), ("pairs", pairs, PAIRS)):
        write_table(round_folder / f"{name}.parquet", table, schema, **snapshot.provenance, extra=extra)
    log.info("%d pairs of %d videos, %d rejected", pairs.num_rows, scores.num_rows, rejected.num_rows)


def _prompts_without_videos(scores: pa.Table, path: Path, prompts_path: Path) -> pa.Table:
    """Rejected rows for the training prompts that have no scored video."""
    prompts = read_prompts(prompts_path)
    ids = take_in_order(scores["prompt_id"], starts_of_runs(scores["prompt_id"]))
    positions = find_rows(ids, prompts["prompt_id"]).fill_null(-1).to_numpy()
    if (wrong := np.flatnonzero(np.diff(positions, prepend=-1) <= 0)).size:
        raise RunError(
            f"{path}: prompt {ids[int(wrong[0])]} is not in the order of {prompts_path}; sort the rows, or "
            "delete the table and start again"
        )
    unseen = np.ones(prompts.num_rows, dtype=bool)
    unseen[positions] = False
    lost = prompts["prompt_id"].filter(pc.and_(pc.equal(prompts["split"], "train"), pa.array(unseen)))
    nobody = pa.nulls(len(lost), pa.string())
    reason = pa.repeat("no video of it has an OmniScore", len(lost))
    return pa.table([lost, nobody, nobody, reason], schema=PAIRS_REJECTED)
