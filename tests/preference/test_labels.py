"""Votes to pairs: the majority of the raters, and how it takes the place of the OmniScore."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from videodpo.config import Pairs, validate
from videodpo.preference import pair_weights
from videodpo.preference.labels import NO_MAJORITY, NOT_COUNTED, TIE, majority, voices
from videodpo.preference.pairs import choose_pairs

HUMAN, MIXED = ({"labels": {"source": source, "path": "labels.parquet"}} for source in ("human", "mixed"))
VALUES = {"p0": [0.2, 0.9, 0.4], "p1": [0.5, 0.1, 0.3], "p2": [0.6, 0.7, 0.8]}


def cast(*rows: str) -> pd.DataFrame:
    """Votes such as `Ann p0-1 > p0-0`; `=` is a tie, `?` a skipped pair."""
    choices = {">": "left", "<": "right", "=": "tie", "?": "skip"}
    found = [
        {"rater": rater, "left_id": left, "choice": choices[sign], "right_id": right, "prompt_id": min(left, right)[:2]}
        for rater, left, sign, right in (row.split() for row in rows)
    ]
    return pd.DataFrame(found, columns=["rater", "left_id", "choice", "right_id", "prompt_id"])


def choose(votes: pd.DataFrame | None, **settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    rows = [
        {"video_id": f"{p}-{s}", "prompt_id": p, "sample": s, "omniscore": value, "norm_sharp": value}
        for p, values in VALUES.items()
        for s, value in enumerate(values)
    ]
    scores = pa.Table.from_pandas(pd.DataFrame(rows), preserve_index=False)
    pairs, rejected = choose_pairs(scores, None, validate(Pairs, settings, "pairs"), 0, votes)
    return pairs.to_pandas(), rejected.to_pandas()


def listed(pairs: pd.DataFrame) -> list[tuple[str, str, str]]:
    return list(zip(pairs.winner_id, pairs.loser_id, pairs.label_source, strict=True))


@pytest.mark.parametrize(
    ("votes", "expected"),
    [
        (["A a < b"], ("b", "a", "")),
        (["A a > b", "B b < a", "C a < b"], ("a", "b", "")),
        (["A a > b", "B a < b"], ("a", "b", NO_MAJORITY)),
        (["A a > b", "B a = b"], ("a", "b", NO_MAJORITY)),
        (["A a > b", "B a = b", "C a = b"], ("a", "b", TIE)),
        (["A a > b", "B a ? b"], ("a", "b", "")),
        (["A a > b", "A b < a", "B a < b", "C a < b"], ("b", "a", "")),  # A counts once
        (["A a > b", "A b > a"], ("a", "b", TIE)),  # A contradicts itself on the swapped repeat
    ],
)
def test_the_winner_has_more_than_half_of_the_raters(votes, expected):
    (row,) = majority(cast(*votes)).itertuples(index=False)
    assert (row.winner_id, row.loser_id, row.reason) == expected


def test_a_rater_has_one_voice_per_pair_whatever_the_sides():
    each = voices(cast("A a > b", "A b < a", "B b > a"))
    assert list(zip(each.rater, each.first_id, each.voice, strict=True)) == [("A", "a", 1), ("B", "a", -1)]


def test_human_pairs_follow_the_votes_alone():
    votes = cast("A p0-0 > p0-1", "A p2-0 = p2-1", "A p1-0 > p1-1")
    pairs, rejected = choose(votes, **HUMAN, filters={"no_regression": {"sharp": 0.0}, "min_gap": 0.6})
    assert listed(pairs) == [("p0-0", "p0-1", "human"), ("p1-0", "p1-1", "human")]
    assert pairs.policy.tolist() == ["labels", "labels"]
    assert pairs.gap.tolist() == pytest.approx([-0.7, 0.4])
    assert rejected.to_dict("records") == [{"prompt_id": "p2", "winner_id": "p2-0", "loser_id": "p2-1", "reason": TIE}]


def test_mixed_pairs_follow_the_votes_where_there_are_some():
    votes = cast("A p0-0 > p0-1", "A p2-0 = p2-2", "A p1-2 > p1-0")
    pairs, rejected = choose(votes, **MIXED, filters={"min_gap": 0.3})
    assert listed(pairs) == [
        ("p0-0", "p0-1", "human"),  # against the OmniScore
        ("p1-0", "p1-1", "omniscore"),
        ("p1-2", "p1-0", "human"),  # a pair that the policy did not choose
    ]
    assert pairs.policy.tolist() == ["labels", "best_worst", "labels"]
    assert pairs.pair_id.tolist() == [0, 1, 2]
    assert rejected.reason.tolist() == [TIE]


def test_filters_apply_to_the_pairs_of_the_omniscore_only():
    pairs, rejected = choose(cast("A p2-0 > p2-2"), **MIXED, filters={"min_gap": 0.5})
    assert listed(pairs) == [("p0-1", "p0-0", "omniscore"), ("p2-0", "p2-2", "human")]
    assert rejected.reason.tolist() == ["min_gap: below 0.5"]


def test_without_a_vote_mixed_gives_the_same_table_as_omniscore():
    pd.testing.assert_frame_equal(choose(None)[0], choose(cast(), **MIXED)[0])
    pd.testing.assert_frame_equal(choose(None)[0], choose(cast("A p0-0 ? p0-1"), **MIXED)[0])


def test_the_weight_of_a_human_pair_is_that_of_its_scores_in_either_order():
    pairs, _ = choose(cast("A p0-0 > p0-1"), **HUMAN, reweight={"bin_width": 0.1})
    everything = np.concatenate(list(VALUES.values()))
    assert pairs.weight.tolist() == pair_weights(everything, [0.9], [0.2], bin_width=0.1).tolist()


def test_a_vote_on_a_clip_that_does_not_count_is_a_rejected_row():
    pairs, rejected = choose(cast("A p0-2 > p0-1", "A p1-0 > p1-1"), **HUMAN, first_samples=2)
    assert listed(pairs) == [("p1-0", "p1-1", "human")]
    assert rejected[rejected.reason == NOT_COUNTED].loser_id.tolist() == ["p0-1"]


def test_votes_without_any_majority_are_refused_with_the_advice_to_collect_more():
    with pytest.raises(ValueError, match=r"none left of 1 candidates \(1 x labels: a tie\); collect more votes"):
        choose(cast("A p0-0 = p0-1"), **HUMAN)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"source": "human"}, "pairs.labels.path: missing; the source 'human' needs one"),
        ({"path": "x.parquet"}, "pairs.labels.path: 'x.parquet' has no effect with the source 'omniscore'"),
        ({"source": "people"}, "pairs.labels.source: 'people'"),
    ],
)
def test_labels_that_cannot_work_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        validate(Pairs, {"labels": labels}, "pairs")
