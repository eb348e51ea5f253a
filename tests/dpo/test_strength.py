"""How far the policy moved from the reference, by its training log."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from videodpo.dpo.strength import strength


def log(num_steps, **columns):
    table = pd.DataFrame({"step": range(num_steps), "skipped": False})
    errors = {"error_winner": 0.3, "error_loser": 0.6, "ref_error_winner": 0.3, "ref_error_loser": 0.6}
    return table.assign(**(errors | columns))


def test_each_side_is_measured_against_its_own_reference_and_both_against_both():
    found = strength(log(30, error_winner=0.33, error_loser=0.72))
    assert found == pytest.approx({"winner": 0.1, "loser": 0.2, "mean": 1.05 / 0.9 - 1, "steps": 3})


def test_the_last_tenth_counts_alone():
    rise = np.where(np.arange(50) >= 45, 0.33, 0.9)
    assert strength(log(50, error_winner=rise))["winner"] == pytest.approx(0.1)


def test_a_short_log_has_one_step_at_least():
    assert strength(log(3))["steps"] == 1


def test_skipped_steps_are_left_out_whatever_their_errors():
    table = log(20, error_winner=0.33)
    table.loc[19, ["skipped", "error_winner", "error_loser"]] = True, np.nan, np.nan
    table.loc[18, ["skipped", "error_winner"]] = True, 99.0
    assert strength(table) == pytest.approx({"winner": 0.1, "loser": 0.0, "mean": 0.03 / 0.9, "steps": 2})


def test_a_log_of_skipped_steps_alone_has_none():
    assert strength(log(5).assign(skipped=True)) is None
