"""Headroom of each base-model score (best of N samples minus their mean), and the alignment's gain as a share of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from videodpo.config import OmniScore
from videodpo.preference import omniscore
from videodpo.preference.statistics import gain_interval, headroom
from videodpo.runtime.seeds import derive_seed
from videodpo.runtime.settings import EvaluateSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.schemas import omniscore_schema
from videodpo.storage.tables import map_shards, open_table, read_arrow, read_columns

_TRAINING, _HELD_OUT = "training prompts", "held-out prompts"


@dataclass(frozen=True)
class Headroom:
    """Headroom of one score of the base model."""

    source: str
    """Prompts on which it was measured."""
    num_samples: int
    """N, the number of base samples per prompt."""
    by_prompt: pd.Series
    """Best of the N samples minus their mean, for each prompt that has all N."""

    def compare(self, deltas: pd.Series, prompt_ids: pd.Series, *, resamples: int, seed: int) -> dict[str, Any]:
        """Entries of the summary: the headroom, and the gain, which is the mean of `deltas` divided by the headroom.

        Args:
            deltas: aligned minus base, one number per clip.
            prompt_ids: prompt of each clip.
            resamples: number of bootstrap resamples.
            seed: seed of the resampling.
        """
        mean = float(self.by_prompt.mean()) if len(self.by_prompt) else None
        gain = float(deltas.mean()) / mean if mean else None  # a headroom of 0 has no ratio
        interval = None
        if gain is not None:
            paired = self.source == _HELD_OUT
            interval = gain_interval(
                deltas, prompt_ids, self.by_prompt, paired=paired, resamples=resamples, seed=derive_seed(seed, "gain")
            )
        low, high = interval or (None, None)
        return {
            "headroom": mean,
            "headroom_samples": self.num_samples,
            "headroom_prompts": len(self.by_prompt),
            "headroom_source": self.source,
            "gain": gain,
            "gain_low": low,
            "gain_high": high,
        }


def measure_headrooms(
    names: Sequence[str], heldout: pd.DataFrame, snapshot: Snapshot[EvaluateSettings]
) -> dict[str, Headroom]:
    """Measure the headroom of each score.

    The samples are the base model's clips of the first round's training prompts. For judges, which do not score these,
    and for runs on the user's own clips, the samples are the base arm's clips instead.

    Args:
        names: scores to measure.
        heldout: base arm's values, with `prompt_id`; NaN where a score failed.
        snapshot: the stage's settings.
    """
    judges, from_clips = snapshot.settings.evaluate.judges, snapshot.settings.from_clips
    trained = [] if from_clips else [name for name in names if name not in judges]
    found = {
        name: Headroom(_TRAINING, *headroom(values, prompt_ids))
        for name, values, prompt_ids in (
            _training_scores(trained, snapshot.folder / "round1", snapshot.settings.omniscore) if trained else ()
        )
    }
    for name in names:
        if name not in found:
            found[name] = Headroom(_HELD_OUT, *headroom(heldout[name], heldout.prompt_id))
    return found


def _training_scores(
    names: Sequence[str], first_round: Path, formula: OmniScore
) -> Iterator[tuple[str, pd.Series, pd.Series]]:
    """Yield each score's name, values and prompts on the training prompts; one score in memory at a time."""
    table = first_round / "omniscore.parquet"
    with open_table(table) as file:
        totals = omniscore_schema(()).names
        columns = {name: name if name in totals else f"raw_{name}" for name in names}
        columns = {name: column for name, column in columns.items() if column in file.schema_arrow.names}
        prompt_ids = _codes(read_columns(file, table, ["prompt_id"])["prompt_id"])
        by_range = None
        if formula.scaling != "range":  # the table's totals are standardised, those of the evaluation are not
            needed = ["video_id", "prompt_id", "sample", *(f"raw_{name}" for name in formula.dimensions)]
            by_range = omniscore(read_columns(file, table, needed).to_pandas(), formula.by_range)
        for name, column in columns.items():
            values = read_columns(file, table, [column])[column].to_pandas() if by_range is None else by_range[column]
            yield name, values, prompt_ids
    read = partial(read_arrow, columns=["prompt_id", "value"])
    for name in names:
        if name not in columns:  # outside the OmniScore
            scores = pa.concat_tables(map_shards(first_round / "scores" / name, read))
            yield name, scores["value"].to_pandas(), _codes(scores["prompt_id"])


def _codes(ids: pa.ChunkedArray) -> pd.Series:
    """Replace each id by a number, which takes less memory than the text."""
    return pd.Series(ids.dictionary_encode().combine_chunks().indices.to_numpy())
