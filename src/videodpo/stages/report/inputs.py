"""Tables of a finished round, read once for all parts of the page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from videodpo.runtime.settings import ReportSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.manifests import read_json
from videodpo.storage.schemas import omniscore_schema
from videodpo.storage.tables import read_metadata, read_shards, read_table, shard_path


@dataclass(frozen=True)
class Finished:
    """Everything that the page shows."""

    run: str
    folder: Path
    """Folder of the run."""
    round_name: str
    texts: dict[str, str]
    """Prompt by prompt_id."""
    prompts: pd.DataFrame
    prompts_dropped: pd.DataFrame
    videos: pd.DataFrame
    arms: dict[str, pd.DataFrame]
    """Videos of the evaluation: `base` and `aligned`."""
    appearance: dict[str, pd.DataFrame]
    """Pixel statistics of these videos, by arm."""
    scores: pd.DataFrame
    """The omniscore table; empty if the pairs are the user's own."""
    num_left_out: int
    """Videos without an OmniScore."""
    pairs: pd.DataFrame
    pairs_rejected: pd.DataFrame
    train_log: pd.DataFrame
    comparison: pd.DataFrame
    """The evaluation's rows: prompt_id, sample, dimension, base, aligned, delta."""
    summary: dict[str, Any]
    """The evaluation's summary.json."""
    benchmark: dict[str, Any] | None
    """The benchmark's summary.json; None without a benchmark."""
    provenance: list[tuple[str, dict[str, str], str]]
    """Table, its metadata, and the scorer that filled it ("" for other tables)."""

    @property
    def dimensions(self) -> list[str]:
        """Dimensions of the OmniScore."""
        return [name.removeprefix("norm_") for name in self.scores.columns if name.startswith("norm_")]


def read_round(snapshot: Snapshot[ReportSettings], round_folder: Path) -> Finished:
    """Read the tables that the page needs.

    Raises:
        InputError: a table is missing or unreadable; the message names it.
    """
    run_folder, evaluation = snapshot.folder, round_folder / "evaluation"
    prompts = read_table(run_folder / "prompts.parquet")
    has_scores = not snapshot.settings.has_pairs
    omniscore = round_folder / "omniscore.parquet"
    scores = read_table(omniscore) if has_scores else omniscore_schema(()).empty_table().to_pandas()
    finished = Finished(
        run=snapshot.run,
        folder=run_folder,
        round_name=round_folder.name,
        texts=dict(zip(prompts.prompt_id, prompts.prompt, strict=True)),
        prompts=prompts,
        prompts_dropped=read_table(run_folder / "prompts_dropped.parquet"),
        videos=read_shards(round_folder / "videos"),
        arms={arm: read_shards(evaluation / "videos" / arm) for arm in ("base", "aligned")},
        appearance={arm: read_table(evaluation / "appearance" / f"{arm}.parquet") for arm in ("base", "aligned")},
        scores=scores,
        num_left_out=int(read_metadata(omniscore).get("num_left_out", "0")) if has_scores else 0,
        pairs=read_table(round_folder / "pairs.parquet"),
        pairs_rejected=read_table(round_folder / "pairs_rejected.parquet"),
        train_log=read_table(round_folder / "train_log.parquet"),
        comparison=read_table(evaluation / "prompts.parquet"),
        summary=read_json(evaluation / "summary.json"),
        benchmark=(read_json(round_folder / "benchmark" / "summary.json") if snapshot.settings.has_benchmark else None),
        provenance=[],
    )
    finished.provenance.extend(_provenance(finished, snapshot, round_folder))
    return finished


def _provenance(
    finished: Finished, snapshot: Snapshot[ReportSettings], round_folder: Path
) -> list[tuple[str, dict[str, str], str]]:
    evaluation = round_folder / "evaluation"
    files = [snapshot.folder / "prompts.parquet", shard_path(round_folder / "videos", 0)]
    files += [shard_path(round_folder / "scores" / name, 0) for name in finished.dimensions]
    tables = ("pairs", "train_log") if snapshot.settings.has_pairs else ("omniscore", "pairs", "train_log")
    files += [round_folder / f"{name}.parquet" for name in tables]
    files += [shard_path(evaluation / "videos" / arm, 0) for arm in finished.arms]
    judged = [name for name in snapshot.settings.dimensions if name not in finished.dimensions]
    files += [shard_path(evaluation / "scores" / "aligned" / name, 0) for name in judged]
    files.append(evaluation / "prompts.parquet")
    rows = []
    for file in files:
        metadata = read_metadata(file)
        scorers: list[str] = list(read_table(file, ["scorer"]).scorer.unique()) if "scores" in file.parts else []
        rows.append((str(file.relative_to(snapshot.folder)), metadata, ", ".join(scorers)))
    return rows
