"""How votes agree with the scores, with themselves and with each other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from videodpo.config import OmniScore
from videodpo.config.errors import InputError
from videodpo.preference import bradley_terry
from videodpo.preference.formula import scale
from videodpo.preference.labels import SKIP
from videodpo.preference.statistics import bootstrap_interval, percentiles
from videodpo.storage.labels import ARM_FOLDERS
from videodpo.storage.tables import read_shards, read_table, shard_path

RESAMPLES = 10_000
ALPHA_RESAMPLES = 1_000
SEED = 0  # of the bootstrap


class Share(NamedTuple):
    """Mean over votes, with its 95 % interval over the prompts.

    Attributes:
        mean: from 0 to 1; the difference of two shares may be below 0.
        interval: None if all votes are on one prompt.
        num_votes: number of votes in the mean.
    """

    mean: float
    interval: tuple[float, float] | None
    num_votes: int


def share(values: pd.Series, prompt_ids: pd.Series) -> Share | None:
    """Mean of one value per vote, with its interval; None without votes."""
    if values.empty:
        return None
    interval = bootstrap_interval(values, prompt_ids, resamples=RESAMPLES, seed=SEED)
    return Share(float(values.mean()), interval, len(values))


def with_numbers(votes: pd.DataFrame) -> pd.DataFrame:
    """Leave out skipped pairs and add columns.

    Returns:
        The votes with `value` (1 left, 0 right, 0.5 tie), `pair` (the two clips, in an order that does not depend on
        the sides), and `first` (1 if the first clip of `pair` was preferred, 0 for the second, 0.5 for a tie).
    """
    votes = votes[votes["choice"] != SKIP].reset_index(drop=True)
    left, right = (votes[f"{side}_arm"] + " " + votes[f"{side}_id"] for side in ("left", "right"))
    swapped = left > right
    value = votes["choice"].map({"left": 1.0, "right": 0.0, "tie": 0.5}).astype(float)
    pair = left.where(~swapped, right) + " " + right.where(~swapped, left)
    return votes.assign(value=value, pair=pair, first=value.where(~swapped, 1 - value))


def score_differences(votes: pd.DataFrame, round_folder: Path, formula: OmniScore) -> pd.DataFrame:
    """Score of the left clip minus that of the right one, one row per vote.

    Returns:
        Columns `omniscore`, the weighted pillars, the sorted dimensions of the OmniScore (scaled), and further scored
        dimensions (raw). NaN where a clip has no such score.
    """
    columns: dict[str, NDArray[np.float64]] = {}
    arms = sorted({*votes["left_arm"], *votes["right_arm"]})
    scores = pd.concat([_scores(round_folder, arm, formula) for arm in arms])
    left, right = (
        scores.reindex(list(zip(votes[f"{side}_arm"], votes[f"{side}_id"], strict=True))).to_numpy()
        for side in ("left", "right")
    )
    for number, name in enumerate(scores.columns):
        columns[str(name)] = left[:, number] - right[:, number]
    return pd.DataFrame(columns, index=votes.index)


def _scores(round_folder: Path, arm: str, formula: OmniScore) -> pd.DataFrame:
    """Scores of an arm's clips, indexed by (arm, video_id)."""
    folder = round_folder / ARM_FOLDERS[arm].replace("videos", "scores")
    names = [found.name for found in sorted(folder.iterdir()) if shard_path(found, 0).exists()]
    raw = pd.DataFrame({name: read_shards(folder / name).set_index("video_id")["value"] for name in names})
    inside = sorted(formula.dimensions)
    totals = ["omniscore", *formula.weighted_pillars]
    if arm == "train":  # `omniscore.scaling` applies to these clips only, and it needs all of them
        wanted = ["video_id", *totals, *(f"norm_{name}" for name in inside)]
        scaled = read_table(round_folder / "omniscore.parquet", wanted).set_index("video_id").reindex(raw.index)
    else:
        values = scale({name: raw[name].to_numpy(float) for name in inside}, formula.by_range)
        scaled = pd.DataFrame(values, index=raw.index)
    columns = {name: scaled[name] for name in totals}
    columns |= {name: scaled[f"norm_{name}"] for name in inside}
    columns |= {name: raw[name] for name in names if name not in inside}
    found = pd.DataFrame(columns).astype(float)
    return found.set_index(pd.MultiIndex.from_product([[arm], found.index]))


def score_agreement(votes: pd.DataFrame, differences: pd.Series) -> Share | None:
    """Share of the votes, without ties and repeats, that prefer the clip with the higher score.

    Votes on clips with equal scores count half.

    Args:
        votes: result of `with_numbers`.
        differences: a column of `score_differences` for them.
    """
    decided = (votes["value"] != 0.5) & ~votes["repeat"] & differences.notna()
    chosen = votes[decided]
    hits = bradley_terry.agreement(differences[decided].to_numpy(), chosen["value"].to_numpy())
    return share(pd.Series(hits, index=chosen.index), chosen["prompt_id"])


def consistency(votes: pd.DataFrame) -> Share | None:
    """Share of hidden repeats on which raters gave the same answer again.

    Args:
        votes: result of `with_numbers`, of one question.
    """
    keys = ["label_set", "rater", "prompt_id", "pair"]
    first, again = (votes[votes["repeat"] == is_repeat].set_index(keys)["first"] for is_repeat in (False, True))
    both = pd.concat([first, again], axis=1, keys=["first", "again"]).dropna().reset_index()
    return share((both["first"] == both["again"]).astype(float), both["prompt_id"])


def alpha(votes: pd.DataFrame) -> tuple[float, tuple[float, float] | None, int] | None:
    """Krippendorff's alpha between raters, nominal over first clip, second clip and tie, without repeats.

    Args:
        votes: result of `with_numbers`, of one question.

    Returns:
        Alpha (1 is agreement, 0 is chance), its 95 % interval over the prompts (None for a single prompt), and the
        number of pairs with votes of several raters. None if there is no such pair, or if all their votes are equal:
        alpha is undefined then.
    """
    mine = votes[~votes["repeat"]].drop_duplicates(["pair", "rater"], keep="last")
    counts = mine.groupby(["prompt_id", "pair", "first"]).size().unstack(fill_value=0)
    counts = counts[counts.sum(axis=1) > 1]
    found = _alpha(counts.to_numpy())
    if found is None:
        return None
    prompts = counts.index.get_level_values("prompt_id")
    groups = [counts.to_numpy()[prompts == prompt] for prompt in prompts.unique()]
    return found, _alpha_interval(groups), len(counts)


def _alpha(counts: NDArray[np.int64]) -> float | None:
    """Alpha of counts [pairs, answers]."""
    if (counts.sum(axis=0) > 0).sum() < 2:
        return None
    try:
        import krippendorff
    except ModuleNotFoundError as error:
        raise InputError("agreement between raters needs one more package: pip install 'videodpo[labels]'") from error
    return float(krippendorff.alpha(value_counts=counts, level_of_measurement="nominal"))


def _alpha_interval(groups: list[NDArray[np.int64]]) -> tuple[float, float] | None:
    if len(groups) < 2:
        return None
    rng = np.random.Generator(np.random.PCG64(SEED))
    draws: Iterable[NDArray[np.int64]] = (rng.integers(0, len(groups), len(groups)) for _ in range(ALPHA_RESAMPLES))
    found = [_alpha(np.concatenate([groups[number] for number in draw])) for draw in draws]
    return percentiles(np.array([one for one in found if one is not None]))  # undefined where all answers are equal
