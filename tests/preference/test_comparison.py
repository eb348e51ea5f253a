"""Statistics of studies against results computed by hand or known in closed form."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from videodpo.preference.comparison import bootstrap_difference, holm, resolvable_difference, verdict


def one_seed(values: np.ndarray, clips: int = 1) -> tuple[pd.Series, pd.Series]:
    """Differences of prompts that have `clips` equal clips each."""
    return pd.Series(np.repeat(values, clips)), pd.Series(np.repeat([f"p{k}" for k in range(len(values))], clips))


def test_holm_equals_the_hand_computed_values():
    # Sorted: 0.005 * 4 = 0.02, 0.01 * 3 = 0.03, 0.03 * 2 = 0.06, and 0.04 * 1 is raised to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_resolvable_difference_follows_the_textbook_formula():
    """1.959964 + 0.841621 standard errors for one two-sided test at 5 %; 2.575829 + 0.841621 for five."""
    assert resolvable_difference(2.0, 1) == pytest.approx(2 * (1.959964 + 0.841621), rel=1e-6)
    assert resolvable_difference(1.0, 5) == pytest.approx(2.575829 + 0.841621, rel=1e-6)


def test_with_one_seed_the_error_is_that_of_the_mean():
    values = np.random.default_rng(0).normal(0.3, 1.0, 200)
    found = bootstrap_difference([one_seed(values)], resamples=20_000, seed=1)
    assert found is not None
    assert found.mean == pytest.approx(values.mean())
    assert found.error == pytest.approx(values.std() / 200**0.5, rel=0.03)
    assert (found.num_seeds, found.num_prompts) == (1, 200)
    assert found.low < found.mean < found.high


def test_equal_clips_of_a_prompt_are_no_additional_evidence():
    values = np.random.default_rng(0).normal(0.3, 1.0, 50)
    one, four = (bootstrap_difference([one_seed(values, clips)], resamples=5000, seed=1) for clips in (1, 4))
    assert one == four


def test_differing_seeds_widen_the_interval_as_in_the_formula():
    """Three seeds, each with equal prompts: the variance is (S - 1) / S of the variance between seeds, over S."""
    seeds = [one_seed(np.full(10, mean)) for mean in (0.0, 1.0, 5.0)]
    found = bootstrap_difference(seeds, resamples=40_000, seed=2)
    assert found is not None
    assert found.mean == pytest.approx(2.0)
    assert found.error == pytest.approx(np.std([0.0, 1.0, 5.0]) / 3**0.5, rel=0.02)


def test_variance_within_seeds_is_added():
    rng = np.random.default_rng(3)
    seeds = [one_seed(rng.normal(0, 1, 400)) for _ in range(3)]
    found = bootstrap_difference(seeds, resamples=20_000, seed=4)
    assert found is not None
    within = np.mean([values.var() / 400 for values, _ in seeds]) / 3
    between = np.var([values.mean() for values, _ in seeds]) / 3
    assert found.error == pytest.approx((within + between) ** 0.5, rel=0.05)


def test_p_is_two_sided_and_never_zero():
    surely = bootstrap_difference([one_seed(np.full(20, 0.5))], resamples=999, seed=5)
    never = bootstrap_difference([one_seed(np.zeros(20))], resamples=999, seed=5)
    even = bootstrap_difference([one_seed(np.tile([-1.0, 1.0], 50))], resamples=9999, seed=5)
    assert surely is not None
    assert never is not None
    assert even is not None
    assert surely.p == pytest.approx(2 / 1000)
    assert never.p == 1.0
    assert even.p > 0.9


def test_false_findings_are_rarer_than_the_level():
    """400 experiments without an effect, with three seeds of 40 prompts: the conservative bootstrap finds below 5 %."""
    rng, found = np.random.default_rng(6), 0
    for number in range(400):
        seeds = [one_seed(rng.normal(0, 1, 40)) for _ in range(3)]
        one = bootstrap_difference(seeds, resamples=400, seed=number)
        assert one is not None
        found += one.p < 0.05
    assert found <= 20


def test_a_single_prompt_supports_no_claim():
    assert bootstrap_difference([one_seed(np.ones(1))], resamples=100, seed=0) is None


@pytest.mark.parametrize(
    ("mean", "p", "expected"),
    [(0.1, 0.01, "reproduced"), (-0.1, 0.01, "contradicted"), (0.1, 0.05, "not resolved"), (-0.1, 0.2, "not resolved")],
)
def test_verdicts(mean, p, expected):
    assert verdict(mean, p) == expected
