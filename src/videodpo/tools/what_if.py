"""Show how changed settings would change the pairs of a finished round, in memory and without a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from videodpo.config import ConfigError, OmniDimension, OmniScore, Pairs, Pillars, filter_disagreements, validate
from videodpo.config.loading import with_settings
from videodpo.preference import omniscore
from videodpo.preference.formula import dimension_shares
from videodpo.preference.pairs import choose_pairs
from videodpo.runtime.settings import EvaluateSettings, PairsSettings
from videodpo.runtime.snapshot import Snapshot, load_snapshot
from videodpo.stages.omniscore.stage import scored_videos
from videodpo.stages.pairs.sizes import read_size_labels
from videodpo.stages.pairs.votes import read_votes
from videodpo.storage.tables import shard_path

SECTIONS = ("omniscore", "dimensions", "pairs")
MOTION_PREFIX = "dynamic_degree"


@dataclass(frozen=True)
class Choice:
    """Pairs that one set of settings chooses."""

    videos: pd.DataFrame
    """The omniscore table."""
    pairs: pd.DataFrame
    rejected: pd.DataFrame
    margins: dict[str, float]
    """By dimension: mean of winner minus loser, in the run's scaling, or in the changed one if the run has none."""
    still_winners: dict[str, float]
    """By motion dimension: share of pairs whose winner moves less than its loser."""
    decided: dict[str, int]
    """By dimension: number of pairs that the winner would not win if both clips had the same score in it."""

    @property
    def effective_pairs(self) -> float:
        """Effective number of pairs, (sum w)^2 / sum w^2: this many pairs of equal weight average equally well."""
        weight = self.pairs["weight"].to_numpy()
        return float(weight.sum() ** 2 / np.square(weight).sum())


@dataclass(frozen=True)
class Comparison:
    """Pairs of the run's own settings compared with those of the changed settings."""

    now: Choice
    then: Choice
    kept: int
    flipped: int
    """Number of pairs of the same two videos with winner and loser swapped."""
    new: int
    gone: int


def what_if(run_folder: Path, round_number: int, settings: Sequence[str]) -> Comparison:
    """Choose the pairs of one round with the settings of its snapshots, and with changed settings; write nothing.

    Args:
        run_folder: <results>/<run>.
        round_number: from 1.
        settings: `key.key=value` with keys of the sections omniscore, dimensions and pairs.

    Raises:
        ConfigError: a key of another section, or a value that is not allowed.
        ValueError, RuntimeError: the round has no scores, or no pair is left.
    """
    config = run_folder / "config"
    pairs_snapshot: Snapshot[PairsSettings] = load_snapshot(config / "pairs.json", "pairs")
    if pairs_snapshot.settings.imported_for is not None:
        raise ConfigError(f"{run_folder}: its pairs are imported, so no OmniScore or pair setting changes them")
    formula: OmniScore = load_snapshot(config / "omniscore.json", "omniscore").settings.omniscore
    now = (formula, pairs_snapshot.settings.pairs)
    then = _changed(now, settings)
    round_folder = run_folder / f"round{round_number}"
    scored = [folder.name for folder in sorted((round_folder / "scores").glob("*")) if shard_path(folder, 0).exists()]
    for name in then[0].dimensions:
        if scored and name not in scored:
            raise ConfigError(f"dimensions.{name}: not scored in {round_folder} ({', '.join(scored)})")

    allowed = load_snapshot(config / "execution.json", "execution").settings.max_failed_fraction

    def videos(dimensions: Sequence[str]) -> pd.DataFrame:
        table, usable = scored_videos(round_folder, sorted(dimensions), run_folder / "prompts.parquet", allowed)
        frame: pd.DataFrame = table.filter(pa.array(usable)).to_pandas()
        return frame

    tables = [omniscore(videos(list(part.dimensions)), part) for part, _ in (now, then)]
    scaled = _columns(tables[1], "norm_") | _columns(tables[0], "norm_")
    motions = _motion_dimensions(run_folder, scored)
    motion = {name: videos([name]).set_index("video_id")[f"raw_{name}"] for name in motions}
    choices = []
    for table, (formula, pairs_settings) in zip(tables, (now, then), strict=True):
        scores = pa.Table.from_pandas(table, preserve_index=False)
        sizes = read_size_labels(round_folder / "videos", scores["video_id"])
        votes = read_votes(pairs_settings.labels, round_folder)
        chosen = choose_pairs(scores, sizes, pairs_settings, pairs_snapshot.seed, votes)
        pairs, rejected = (part.to_pandas() for part in chosen)
        margins = {name: float(_margins(pairs, values).mean()) for name, values in sorted(scaled.items())}
        still = {name: float((_margins(pairs, values) < 0).mean()) for name, values in motion.items()}
        choices.append(Choice(table, pairs, rejected, margins, still, _decided(table, pairs, formula)))
    return _compare(*choices)


def format_comparison(comparison: Comparison) -> str:
    """Format a comparison as a table for the terminal."""
    now, then = comparison.now, comparison.then
    lines = [f"{'':44}{'now':>10}{'then':>10}"]

    def add(label: str, before: str, after: str) -> None:
        lines.append(f"{label:44}{before:>10}{after:>10}")

    add("videos", str(len(now.videos)), str(len(then.videos)))
    add("pairs", str(len(now.pairs)), str(len(then.pairs)))
    for label in ("kept", "flipped", "new", "gone"):
        add(f"  {label}", "", str(getattr(comparison, label)))
    add("rejected", str(len(now.rejected)), str(len(then.rejected)))
    add("effective pairs (by weight)", f"{now.effective_pairs:.1f}", f"{then.effective_pairs:.1f}")
    for name, share in now.still_winners.items():
        add(f"winner moves less ({name})", f"{share:.1%}", f"{then.still_winners[name]:.1%}")
    lines.append("mean margin, winner minus loser, scaled as now")
    for name, margin in now.margins.items():
        add(f"  {name}", f"{margin:+.4f}", f"{then.margins[name]:+.4f}")
    lines.append("pairs decided by one dimension")
    for name in sorted(now.decided | then.decided):
        add(f"  {name}", *(str(one.decided.get(name, "")) for one in (now, then)))
    return "\n".join(lines)


def _changed(now: tuple[OmniScore, Pairs], settings: Sequence[str]) -> tuple[OmniScore, Pairs]:
    for setting in settings:
        section, dot, _ = setting.partition("=")[0].partition(".")
        if section not in SECTIONS or not dot:
            raise ConfigError(
                f"--set {setting!r}: only keys of omniscore, dimensions and pairs can be tried; others need a run"
            )
    omniscore = now[0].model_dump()
    raw = {"dimensions": omniscore.pop("dimensions"), "omniscore": omniscore, "pairs": now[1].model_dump()}
    raw = with_settings(raw, settings)
    dimensions = {
        name: validate(OmniDimension, dimension, f"dimensions.{name}")
        for name, dimension in raw["dimensions"].items()
        if dimension is not None and dimension.get("pillar", "") is not None
    }
    pillars = validate(Pillars, raw["omniscore"], "omniscore")
    inside = {name: dimension.model_dump() for name, dimension in dimensions.items()}
    formula = validate(OmniScore, pillars.model_dump() | {"dimensions": inside}, "omniscore")
    changed = formula, validate(Pairs, raw["pairs"], "pairs")
    if problems := [f"{key}: {reason}" for key, reason in filter_disagreements(changed[1], changed[0].dimensions)]:
        raise ConfigError("configuration: " + "\n  ".join(problems))
    return changed


def _motion_dimensions(run_folder: Path, scored: Sequence[str]) -> list[str]:
    """Motion dimension of the evaluation, or else every dimension that measures a degree of motion."""
    path = run_folder / "config" / "evaluate.json"
    if path.exists():
        evaluate: Snapshot[EvaluateSettings] = load_snapshot(path, "evaluate")
        if (chosen := evaluate.settings.evaluate.motion_dimension) in scored:
            assert chosen is not None
            return [chosen]
    return [name for name in scored if name.startswith(MOTION_PREFIX)]


def _columns(table: pd.DataFrame, prefix: str) -> dict[str, pd.Series]:
    """Values by video_id of every column with the prefix, keyed by the column's name without it."""
    indexed = table.set_index("video_id")
    return {name.removeprefix(prefix): indexed[name] for name in indexed.columns if name.startswith(prefix)}


def _margins(pairs: pd.DataFrame, values: pd.Series) -> pd.Series:
    """Winner minus loser of each pair that has both values."""
    winner, loser = (values.reindex(pairs[side]).to_numpy() for side in ("winner_id", "loser_id"))
    return pd.Series(winner - loser).dropna()


def _decided(table: pd.DataFrame, pairs: pd.DataFrame, formula: OmniScore) -> dict[str, int]:
    """Count, for each dimension, the pairs whose gap it provides alone."""
    scaled, shares = _columns(table, "norm_"), dimension_shares(formula)
    return {
        name: int((pairs["gap"].to_numpy() <= shares[name] * _margins(pairs, values).to_numpy()).sum())
        for name, values in sorted(scaled.items())
    }


def _compare(now: Choice, then: Choice) -> Comparison:
    before, after = (set(zip(c.pairs["winner_id"], c.pairs["loser_id"], strict=True)) for c in (now, then))
    kept = before & after
    flipped = {(winner, loser) for winner, loser in after if (loser, winner) in before}
    return Comparison(
        now=now,
        then=then,
        kept=len(kept),
        flipped=len(flipped),
        new=len(after) - len(kept) - len(flipped),
        gone=len(before) - len(kept) - len(flipped),
    )
