"""Choose weighted pairs from scored videos, and list rejected candidates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videodpo.config import Pairs
from videodpo.config.errors import InputError
from videodpo.preference.candidates import SIZE, Candidates, Videos, make_candidates
from videodpo.preference.filters import KEPT, rejections
from videodpo.preference.labels import LabelledPairs
from videodpo.preference.subsets import counted_videos
from videodpo.preference.weights import Histogram
from videodpo.storage.schemas import PAIRS, PAIRS_REJECTED

LABEL_POLICY = "labels"  # in the column `policy` of a pair that people decided


def choose_pairs(
    scores: pa.Table, sizes: pa.Array | None, settings: Pairs, seed: int, votes: pd.DataFrame | None = None
) -> tuple[pa.Table, pa.Table]:
    """Choose pairs and list rejected candidates, both in the order of the prompts.

    `first_samples` and `prompt_share` determine which videos count, also for the histogram. The other videos come first
    in the table of rejected candidates.

    Videos of one prompt and one size are ranked by OmniScore. At equal scores, the lower sample index ranks higher. If
    a prompt or one of its sizes has no candidate, there is a rejected row without videos.

    A pair with votes is decided by their majority, whatever the OmniScores are, and no filter applies to it. It is
    weighted like all pairs: the weight depends on how rare the two OmniScores are, not on which of them is higher. With
    `labels.source: human`, no other pairs are chosen.

    Args:
        scores: the omniscore table, sorted by prompt, then by sample.
        sizes: frames x height x width of each video in `scores`, as text; None if all are equal.
        settings: policy, filters and re-weighting.
        seed: seed of the run.
        votes: votes of people, with the columns of `labels.voices`; None unless `settings.labels` asks for them.

    Returns:
        Tables with the columns of `schemas.PAIRS` and of `schemas.PAIRS_REJECTED`.

    Raises:
        InputError: no pair is left; the message counts the reasons.
    """
    if sizes is not None:
        scores = scores.append_column(SIZE, sizes)
    scores, left_out = counted_videos(scores, settings, seed)
    videos, reweight = Videos(scores), settings.reweight
    omniscores, ids = videos.column("omniscore"), scores["video_id"]
    by_score = settings.labels.source != "human"
    candidates = make_candidates(videos, settings.policy, seed) if by_score else Candidates.none()
    if votes is None:
        found, reasons = rejections(videos, candidates, settings.filters)
        is_human = np.zeros(len(found), dtype=bool)
    else:
        labelled = LabelledPairs(videos, votes)
        candidates = labelled.without_votes(candidates)
        found, reasons = rejections(videos, candidates, settings.filters)
        candidates, found, reasons, is_human = labelled.merged_with(candidates, found, reasons)
        left_out = pa.concat_tables([left_out, labelled.not_counted])
    rejected = pa.concat_tables([left_out, _rejected(videos, candidates, found, reasons)])
    kept = found == KEPT
    count = int(kept.sum())
    if not count:
        counts = sorted(pc.value_counts(rejected["reason"]).to_pylist(), key=lambda one: -one["counts"])
        listing = "; ".join(f"{one['counts']} x {one['values']}" for one in counts)
        advice = "loosen pairs.filters" if by_score else "collect more votes"
        raise InputError(f"pairs: none left of {len(kept)} candidates ({listing}); {advice}")
    winners, losers = candidates.winners[kept], candidates.losers[kept]
    score_winner, score_loser = omniscores[winners], omniscores[losers]
    histogram = Histogram.of(omniscores, reweight.bin_width)
    probabilities = histogram.probabilities(score_winner, score_loser)
    weights = histogram.weights(probabilities, alpha=reweight.exponent, beta=reweight.numerator)
    pairs = {
        "pair_id": np.arange(count),
        "prompt_id": scores["prompt_id"].take(pa.array(winners)),
        "winner_id": ids.take(pa.array(winners)),
        "loser_id": ids.take(pa.array(losers)),
        "score_winner": score_winner,
        "score_loser": score_loser,
        "gap": score_winner - score_loser,
        "probability": probabilities,
        "weight": weights / weights.mean() if reweight.normalize else weights,
        "policy": _either(is_human[kept], LABEL_POLICY, settings.policy),
        "label_source": _either(is_human[kept], "human", "omniscore"),
    }
    return pa.table(pairs, schema=PAIRS), rejected


def _either(chosen: NDArray[np.bool_], text: str, other: str) -> pa.Array:
    return pc.if_else(pa.array(chosen), text, other)


def _rejected(videos: Videos, candidates: Candidates, found: NDArray[np.int64], reasons: list[str]) -> pa.Table:
    """Rejected rows by prompt: first its groups with too few videos, then its rejected candidates."""
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
