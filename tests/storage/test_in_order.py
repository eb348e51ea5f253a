"""Long tables side by side: what the follower finds, and what it refuses."""

from __future__ import annotations

import threading

import numpy as np
import pyarrow as pa
import pytest

from videodpo.storage.in_order import Follower, OutOfOrder, one_ahead, starts_of_runs


def column(*ids: str) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(ids, pa.string())])


def follower(*parts: str) -> Follower:
    """A column whose ids are single letters, in these parts."""
    return Follower(column(*part) for part in parts)


@pytest.mark.parametrize("parts", [("abcdefgh",), ("abc", "defgh"), tuple("abcdefgh")])
@pytest.mark.parametrize(
    ("asked", "places"),
    [
        (("abcd", "efgh"), [0, 1, 2, 3, 4, 5, 6, 7]),
        (("a", "h"), [0, 7]),
        (("bd", "", "eg"), [1, 3, 4, 6]),
        (("gh",), [6, 7]),
    ],
)
def test_places_count_from_the_columns_start(parts, asked, places):
    table = follower(*parts)
    assert np.concatenate([table.indices(column(*ids)) for ids in asked]).tolist() == places


@pytest.mark.parametrize("asked", [("ba",), ("aa",), ("b", "a"), ("x",), ("ax",), ("abcdefghi",)])
def test_ids_in_another_order_or_unknown_are_refused(asked):
    *before, last = asked
    table = follower("abc", "defgh")
    for ids in before:
        table.indices(column(*ids))
    with pytest.raises(OutOfOrder, match="is not where it should be"):
        table.indices(column(*last))


def test_the_refusal_names_the_id():
    with pytest.raises(OutOfOrder, match=r"^x is"):
        follower("abc").indices(column("a", "x"))


def test_runs_begin_where_the_id_changes():
    assert starts_of_runs(column("a", "a", "b", "a", "a")).tolist() == [0, 2, 3]
    assert starts_of_runs(pa.chunked_array([["a"], ["a", "b"], ["b"]])).tolist() == [0, 2]
    assert starts_of_runs(column()).tolist() == []


def test_items_are_made_ahead_in_order_on_one_other_thread():
    threads = set()

    def items():
        for number in range(5):
            threads.add(threading.get_ident())
            yield number

    with one_ahead(items()) as found:
        assert list(found) == list(range(5))
    assert threads.isdisjoint({threading.get_ident()})


def test_an_error_while_making_ahead_reaches_the_user():
    def items():
        yield 1
        raise ValueError("cut")

    with pytest.raises(ValueError, match="cut"), one_ahead(items()) as found:
        list(found)


def test_whoever_stops_early_leaves_no_thread():
    before = threading.active_count()
    with one_ahead(range(1, 9)) as found:
        next(found)
    assert threading.active_count() == before
