"""The omniscore table to `pairs.parquet` and `pairs_rejected.parquet`."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from videodpo.config import Pairs
from videodpo.config.errors import InputError, RunError
from videodpo.runtime.locks import writes
from videodpo.runtime.snapshot import PairsSettings, Snapshot
from videodpo.stages.pairs.candidates import Videos, videos_by_prompt
from videodpo.stages.pairs.choice import choose, prepare
from videodpo.stages.pairs.filters import columns_for
from videodpo.stages.pairs.sizes import read_round_sizes, sizes_of
from videodpo.storage.in_order import Follower, OutOfOrder, one_ahead, prompts_in_order
from videodpo.storage.row_groups import RowGroups, read_parts
from videodpo.storage.schemas import PAIRS, PAIRS_REJECTED, ClipSize
from videodpo.storage.tables import table_writer

log = logging.getLogger(__name__)


@writes("pairs.parquet")
def select_pairs(snapshot: Snapshot[PairsSettings], round_folder: Path) -> None:
    """Pair the videos of every prompt and weigh the pairs; each training prompt is in one of the two tables, or both.

    The omniscore table is read a row group at a time, and once more for every setting that follows from all videos.

    Raises:
        ValueError: no pair is left; the message counts the reasons.
        RuntimeError: the omniscore table is not in the order of the prompts.
    """
    settings, path = snapshot.settings.pairs, round_folder / "omniscore.parquet"
    sizes = read_round_sizes(round_folder / "videos", path)
    columns = ["video_id", "prompt_id", "omniscore", *columns_for(settings.filters)]

    def videos() -> AbstractContextManager[Iterator[Videos]]:
        return one_ahead(videos_by_prompt(read_parts(path, columns), sizes))

    scores = (part["omniscore"].to_numpy() for part in read_parts(path, ["omniscore"]))
    choice = prepare(scores, videos, settings, snapshot.seed)
    prompts, tally = _Prompts(snapshot.folder / "prompts.parquet"), _Tally()
    write = partial(table_writer, stage="pairs", digest=snapshot.digest, seed=snapshot.seed)
    with (
        write(round_folder / "pairs.parquet", PAIRS) as pairs_file,
        write(round_folder / "pairs_rejected.parquet", PAIRS_REJECTED) as rejected_file,
        videos() as parts,
    ):
        for part in parts:
            prompts.mark(part, path)
            pairs, rejected = choose(part, choice, tally.num_pairs)
            tally.count(part, pairs, rejected)
            pairs_file.write(pairs)
            rejected_file.write(rejected)
        tally.refuse_none()
        for lost in prompts.others():
            rejected_file.write(lost)
            tally.num_rejected += lost.num_rows
    log.info("%d pairs of %d videos, %d rejected", tally.num_pairs, tally.num_videos, tally.num_rejected)


def choose_pairs(
    scores: pd.DataFrame, sizes: Mapping[str, ClipSize], settings: Pairs, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pairs and the rejected ones, in the order of the prompts; nothing is read or written.

    Videos of one prompt and one size are ranked by OmniScore; of equal ones the lower sample index ranks higher. Where
    a prompt has no candidate, or one of its sizes has none, is a rejected row without videos.

    Args:
        scores: the omniscore table, by prompt, then by sample. sizes: of every video in it.
        settings: policy, filters and re-weighting. seed: of the run.

    Returns:
        Columns of `schemas.PAIRS`, and of `schemas.PAIRS_REJECTED`.

    Raises:
        ValueError: no pair is left; the message counts the reasons.
    """
    table, tally = pa.Table.from_pandas(scores, preserve_index=False), _Tally()
    videos = Videos(table, sizes_of(scores["video_id"].tolist(), sizes), 0)
    choice = prepare([videos.column("omniscore")], lambda: nullcontext([videos]), settings, seed)
    pairs, rejected = choose(videos, choice, 0)
    tally.count(videos, pairs, rejected)
    tally.refuse_none()
    return pairs.to_pandas(), rejected.to_pandas()


class _Tally:
    """What became of the candidates."""

    def __init__(self) -> None:
        self.num_videos = self.num_pairs = self.num_rejected = self._num_candidates = 0
        self._reasons: Counter[str] = Counter()

    def count(self, videos: Videos, pairs: pa.Table, rejected: pa.Table) -> None:
        self.num_videos += videos.table.num_rows
        self.num_pairs += pairs.num_rows
        self.num_rejected += rejected.num_rows
        self._num_candidates += pairs.num_rows + rejected.num_rows - rejected["winner_id"].null_count
        for found in pc.value_counts(rejected["reason"]).to_pylist():
            self._reasons[found["values"]] += found["counts"]

    def refuse_none(self) -> None:
        if not self.num_pairs:
            listing = "; ".join(f"{count} x {reason}" for reason, count in self._reasons.most_common())
            raise InputError(f"pairs: none left of {self._num_candidates} candidates ({listing}); loosen pairs.filters")


class _Prompts:
    """Which of the training prompts have scored videos."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._follower = Follower(part["prompt_id"] for part in prompts_in_order(path))
        table = RowGroups(path)
        self._seen = np.zeros(sum(map(table.num_rows, range(len(table)))), dtype=bool)

    def mark(self, videos: Videos, source: Path) -> None:
        """Raises RuntimeError where the prompts of these videos do not come next."""
        try:
            indices = self._follower.indices(videos.table["prompt_id"].take(pa.array(videos.starts)))
        except OutOfOrder as error:
            raise RunError(f"{source}: prompt {error}; make it again from the scores and {self._path}") from error
        self._seen[indices] = True

    def others(self) -> Iterator[pa.Table]:
        """Rejections of those that have none."""
        first = 0
        for part in prompts_in_order(self._path):
            seen = self._seen[first : first + part.num_rows]
            first += part.num_rows
            lost = part.filter(pc.and_(pc.equal(part["split"], "train"), pa.array(~seen)))["prompt_id"]
            nobody = pa.nulls(len(lost), pa.string())
            reason = pa.repeat("no video of it has an OmniScore", len(lost))
            yield pa.table([lost, nobody, nobody, reason], schema=PAIRS_REJECTED)
