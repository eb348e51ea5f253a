"""Headroom (best of N base samples minus their mean) and gain (the share of it that an alignment reaches)."""

from __future__ import annotations

import resource
import time

import numpy as np
import pandas as pd
import pytest

from videodpo.preference.statistics import gain_interval, headroom


def of(*prompts):
    """Headroom of lists of scores, one list per prompt."""
    values = [value for prompt in prompts for value in prompt]
    ids = [number for number, prompt in enumerate(prompts) for _ in prompt]
    return headroom(pd.Series(values, dtype=float), pd.Series(ids))


def test_headroom_is_the_best_minus_the_mean_of_each_prompt():
    count, found = of([1, 2, 6], [0, 0, 3])
    assert (count, found.to_dict()) == (3, {0: 3.0, 1: 2.0})


def test_prompts_with_a_failed_or_absent_sample_are_left_out():
    count, found = of([1, 2, 6], [0, np.nan, 9], [0, 9])
    assert (count, found.to_dict()) == (3, {0: 3.0})


def test_a_single_sample_has_no_headroom():
    count, found = of([1], [2])
    assert (count, len(found)) == (1, 0)


def test_equal_samples_have_exactly_no_headroom_despite_rounding():
    assert of([0.1] * 3, [0.7] * 3)[1].tolist() == [0.0, 0.0]


def interval(deltas, headrooms, *, paired=False, resamples=2000, seed=0):
    deltas = pd.Series(deltas, dtype=float)
    rooms = pd.Series(headrooms, dtype=float)
    return gain_interval(deltas, pd.Series(deltas.index), rooms, paired=paired, resamples=resamples, seed=seed)


@pytest.mark.parametrize("paired", [False, True])
def test_the_interval_covers_the_ratio_about_95_times_in_100(paired):
    rng, covered = np.random.default_rng(5), 0
    for trial in range(300):
        rooms = rng.gamma(4, 0.25, 60)  # mean 1
        deltas = 0.5 * rooms + rng.normal(0, 0.3, 60) if paired else rng.normal(0.5, 0.5, 60)
        low, high = interval(deltas, rooms, paired=paired, resamples=300, seed=trial)
        covered += low <= 0.5 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_the_same_prompts_are_drawn_together():
    """If each prompt gains exactly half of its own headroom, so does every resample."""
    rooms = np.random.default_rng(6).gamma(1, 1.0, 40)
    assert interval(rooms / 2, rooms, paired=True) == pytest.approx((0.5, 0.5))
    low, high = interval(rooms / 2, rooms)
    assert low < 0.4 < 0.6 < high


def test_prompts_with_one_side_missing_count_only_on_the_other():
    """For example a judge that could not score every clip."""
    deltas = pd.Series([0.5] * 6, index=range(6))
    rooms = pd.Series([1.0] * 6, index=range(3, 9))
    assert interval(deltas, rooms, paired=True) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize(("deltas", "rooms"), [([1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0])])
def test_a_single_prompt_on_either_side_has_no_interval(deltas, rooms):
    assert interval(deltas, rooms) is None


def test_an_unbounded_interval_is_none():
    """A third of the resamples of three prompts do not contain the only one with a headroom."""
    assert interval([0.1, 0.2, 0.3], [0.0, 0.0, 1.0]) is None


def test_a_few_resamples_without_headroom_do_not_remove_the_interval():
    rooms = [0.0] * 4 + [1.0] * 4  # 1 of 256 resamples has none
    low, high = interval([0.1] * 8, rooms)
    assert 0.1 < low < 0.2 < high < np.inf


def test_10000_prompts_take_seconds_and_not_gigabytes():
    rng = np.random.default_rng(7)
    values = pd.Series(rng.normal(0, 1, 40_000))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    _, rooms = headroom(values, pd.Series(np.repeat(range(10_000), 4)))
    assert interval(rng.normal(0.5, 1, 10_000), rooms, resamples=1000) is not None
    assert time.monotonic() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB
