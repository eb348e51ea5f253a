"""Strength: how far the policy moved from the reference, computed from the training log."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from videodpo.dpo.strength import strength


def log(num_steps, **columns):
    table = pd.DataFrame({"step": range(num_steps), "skipped": False})
    errors = {"error_winner": 0.3, "error_loser": 0.6, "ref_error_winner": 0.3, "ref_error_loser": 0.6}
    return table.assign(**(errors | columns))


def test_each_side_is_relative_to_its_own_reference_and_the_mean_to_both():
    found = strength(log(30, error_winner=0.33, error_loser=0.72))
    assert found == pytest.approx({"winner": 0.1, "loser": 0.2, "mean": 1.05 / 0.9 - 1, "steps": 3})


def test_only_the_last_tenth_counts():
    rise = np.where(np.arange(50) >= 45, 0.33, 0.9)
    assert strength(log(50, error_winner=rise))["winner"] == pytest.approx(0.1)


def test_a_short_log_uses_at_least_one_step():
    assert strength(log(3))["steps"] == 1


def test_skipped_steps_are_left_out():
    table = log(20, error_winner=0.33)
    table.loc[19, ["skipped", "error_winner", "error_loser"]] = True, np.nan, np.nan
    table.loc[18, ["skipped", "error_winner"]] = True, 99.0
    assert strength(table) == pytest.approx({"winner": 0.1, "loser": 0.0, "mean": 0.03 / 0.9, "steps": 2})


def test_a_log_with_only_skipped_steps_has_no_strength():
    assert strength(log(5).assign(skipped=True)) is None
