"""Weights fitted to votes that were drawn from known weights."""

from __future__ import annotations

import numpy as np
import pytest

from videodpo.preference.bradley_terry import agreement, fit_weights, held_out_logits, resampled_weights

WEIGHTS = np.array([6.0, 2.0, 0.0, 30.0])
SPREADS = np.array([0.3, 0.5, 0.4, 0.02])  # of the differences; the last one is small, as for motion smoothness


def draw(num_votes: int, weights=WEIGHTS, seed: int = 1):
    """Differences of scores, and votes of raters who follow the model; a quarter of the undecided ones are ties."""
    rng = np.random.default_rng(seed)
    differences = rng.normal(0, SPREADS, (num_votes, len(SPREADS)))
    logits = differences @ weights
    votes = (rng.random(num_votes) < 1 / (1 + np.exp(-logits))).astype(float)
    votes[(np.abs(logits) < 0.3) & (rng.random(num_votes) < 0.25)] = 0.5
    return differences, votes


def test_the_fit_finds_the_weights_that_the_votes_were_drawn_from():
    (fitted,) = fit_weights(*draw(4000))
    assert fitted == pytest.approx(WEIGHTS, rel=0.25, abs=0.3)


def test_a_vote_that_counts_twice_is_like_two_votes():
    differences, votes = draw(60)
    counts = np.random.default_rng(2).integers(0, 3, (1, 60))
    repeated = np.repeat(np.arange(60), counts[0])
    twice = fit_weights(differences[repeated], votes[repeated])
    assert fit_weights(differences, votes, counts.astype(float)) == pytest.approx(twice, rel=0.1)  # another ridge


def test_no_weight_is_below_zero():
    """Raters dislike the first dimension."""
    (fitted,) = fit_weights(*draw(1000, weights=np.array([-6.0, 3.0, 0.0, 0.0])))
    assert fitted[0] == 0
    assert (fitted >= 0).all()
    assert fitted[1] > 1


def test_swapped_sides_give_the_same_weights():
    differences, votes = draw(300)
    (swapped,), (fitted,) = fit_weights(-differences, 1 - votes), fit_weights(differences, votes)
    assert swapped == pytest.approx(fitted, abs=1e-3)


def test_a_dimension_that_never_differs_has_weight_0():
    differences, votes = draw(300)
    differences[:, 1] = 0
    (fitted,) = fit_weights(differences, votes)
    assert fitted[1] == 0
    assert fitted[0] > 0


def test_weights_stay_finite_where_they_explain_every_vote():
    differences = np.array([[0.1], [0.2], [-0.3]])
    assert 0 < fit_weights(differences, np.array([1.0, 1.0, 0.0])).item() < 100


def test_held_out_votes_are_predicted_without_the_votes_on_their_prompt():
    """Random votes, the same four times per prompt: weights that have seen one of the four predict the others."""
    rng = np.random.default_rng(0)
    differences = rng.normal(size=(50, 30)).repeat(4, axis=0)
    votes = rng.integers(0, 2, 50).astype(float).repeat(4)
    seen = agreement(differences @ fit_weights(differences, votes)[0], votes).mean()
    one_by_one = agreement(held_out_logits(differences, votes, np.arange(200), 0), votes).mean()
    by_prompt = agreement(held_out_logits(differences, votes, np.arange(200) // 4, 0), votes).mean()
    assert min(seen, one_by_one) > 0.62
    assert by_prompt < 0.55


def test_resampled_weights_vary_around_the_fit():
    differences, votes = draw(400)
    fits = resampled_weights(differences, votes, np.arange(400) // 2, resamples=20, seed=0)
    low, high = np.percentile(fits, [1, 99], axis=0)
    assert fits.shape == (20, 4)
    assert ((low <= fit_weights(differences, votes)[0] + 1e-6) & (high > low)).all()


def test_agreement_counts_equal_scores_half():
    assert agreement(np.array([2.0, -1.0, 0.0]), np.array([1.0, 1.0, 0.0])).tolist() == [1.0, 0.0, 0.5]
