"""Scored videos to pairs with weights and to rejections, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from videodpo.config import Pairs
from videodpo.preference.weights import Histogram
from videodpo.stages.pairs.candidates import Candidates, Videos, make_candidates
from videodpo.stages.pairs.filters import KEPT, gaps, rejections
from videodpo.storage.schemas import PAIRS, PAIRS_REJECTED


@dataclass(frozen=True)
class Choice:
    """Everything that decides on a prompt's pairs, also what follows from all the other videos."""

    settings: Pairs
    seed: int
    histogram: Histogram
    lowest_gap: float | None = None
    """The smallest gap that `filters.drop_percentile` keeps."""
    mean_weight: float | None = None
    """What `normalize` divides by."""

    def weights(self, winners: NDArray[np.float64], losers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of pairs with these scores, before they are normalised."""
        reweight = self.settings.reweight
        probabilities = self.histogram.probabilities(winners, losers)
        return self.histogram.weights(probabilities, alpha=reweight.exponent, beta=reweight.numerator)


def prepare(
    scores: Iterable[NDArray[np.float64]],
    videos: Callable[[], AbstractContextManager[Iterable[Videos]]],
    settings: Pairs,
    seed: int,
) -> Choice:
    """What follows from all videos.

    Args:
        scores: all OmniScores, in parts. videos: goes through all of them; once for every setting that needs it.
    """
    choice = Choice(settings, seed, Histogram.of(scores, settings.reweight.bin_width))
    if settings.filters.drop_percentile:
        left = []
        with videos() as parts:
            for part in parts:
                candidates, found, _ = _judge(part, choice)
                left.append(gaps(part, candidates)[found == KEPT])
        if sum(map(len, left)):
            lowest = float(np.percentile(np.concatenate(left), settings.filters.drop_percentile))
            choice = replace(choice, lowest_gap=lowest)
    if settings.reweight.normalize:
        weights = []
        with videos() as parts:
            for part in parts:
                candidates, found, _ = _judge(part, choice)
                scores_of_part = part.column("omniscore")
                best, worst = (side[found == KEPT] for side in (candidates.winners, candidates.losers))
                weights.append(choice.weights(scores_of_part[best], scores_of_part[worst]))
        if sum(map(len, weights)):
            choice = replace(choice, mean_weight=float(np.concatenate(weights).mean()))
    return choice


def choose(videos: Videos, choice: Choice, first_pair: int) -> tuple[pa.Table, pa.Table]:
    """Pairs and rejections of whole prompts, in their order, as `schemas.PAIRS` and `schemas.PAIRS_REJECTED`.

    Args:
        first_pair: `pair_id` of the first.
    """
    candidates, found, reasons = _judge(videos, choice)
    kept = found == KEPT
    winners, losers = candidates.winners[kept], candidates.losers[kept]
    scores = videos.column("omniscore")
    score_winner, score_loser = scores[winners], scores[losers]
    weights = choice.weights(score_winner, score_loser)
    count, ids = len(winners), videos.table["video_id"]
    pairs = {
        "pair_id": np.arange(first_pair, first_pair + count),
        "prompt_id": videos.table["prompt_id"].take(pa.array(winners)),
        "winner_id": ids.take(pa.array(winners)),
        "loser_id": ids.take(pa.array(losers)),
        "score_winner": score_winner,
        "score_loser": score_loser,
        "gap": score_winner - score_loser,
        "probability": choice.histogram.probabilities(score_winner, score_loser),
        "weight": weights if choice.mean_weight is None else weights / choice.mean_weight,
        "policy": pa.repeat(choice.settings.policy, count),
        "label_source": pa.repeat("omniscore", count),
    }
    return pa.table(pairs, schema=PAIRS), _rejected(videos, candidates, found, reasons)


def _judge(videos: Videos, choice: Choice) -> tuple[Candidates, NDArray[np.int64], list[str]]:
    candidates = make_candidates(videos, choice.settings.policy, choice.seed)
    return candidates, *rejections(videos, candidates, choice.settings.filters, choice.lowest_gap)


def _rejected(videos: Videos, candidates: Candidates, found: NDArray[np.int64], reasons: list[str]) -> pa.Table:
    """Groups that lack videos come before the rejected candidates of the same prompt."""
    against = np.flatnonzero(found != KEPT)
    lacking = len(candidates.lacking)
    prompts = np.array([prompt for prompt, _ in candidates.lacking] + candidates.prompts[against].tolist(), dtype=int)
    order = pa.array(np.argsort(prompts, kind="stable"))
    why = pa.concat_arrays(
        [
            pa.array([reason for _, reason in candidates.lacking], pa.string()),
            pa.array(reasons).take(pa.array(found[against])),
        ]
    )
    ids = videos.table["video_id"].cast(pa.string())
    sides = [
        pa.chunked_array([pa.nulls(lacking, pa.string()), *ids.take(pa.array(rows[against])).chunks], pa.string())
        for rows in (candidates.winners, candidates.losers)
    ]
    columns = [videos.table["prompt_id"].take(pa.array(videos.starts[prompts])), *sides, why]
    return pa.table(columns, schema=PAIRS_REJECTED).take(order)
