"""The plan of visits: order, counters and noise levels."""

import numpy as np
import pytest

from videodpo.config import Schedule, Timesteps
from videodpo.dpo.visits import plan_visits


def test_every_pair_is_visited_once_an_epoch():
    visits = plan_visits(range(6), Schedule(num_steps=3, pairs_per_step=4), seed=0)
    assert sorted(visit.pair_id for visit in visits[:6]) == list(range(6))
    assert [visit.visit for visit in visits] == [0] * 6 + [1] * 6


def test_micro_batch_and_length_do_not_change_the_draws():
    long = plan_visits(range(6), Schedule(num_steps=9, pairs_per_step=4, micro_batch=2), seed=0)
    short = plan_visits(range(6), Schedule(num_steps=3, pairs_per_step=4, micro_batch=4), seed=0)
    assert long[:12] == short


def test_no_two_visits_share_noise():
    visits = plan_visits(range(50), Schedule(num_steps=40, pairs_per_step=5), seed=1)
    assert len({visit.noise_seed for visit in visits}) == len(visits)


def test_uniform_levels_fill_the_configured_range():
    timesteps = Timesteps(low=0.2, high=0.6)
    visits = plan_visits(range(100), Schedule(num_steps=100, pairs_per_step=10, timesteps=timesteps), seed=2)
    levels = np.array([visit.level for visit in visits])
    assert levels.min() >= 0.2
    assert levels.max() <= 0.6
    assert abs(levels.mean() - 0.4) < 0.02


def test_shift_moves_levels_towards_noise():
    plain = plan_visits(range(100), Schedule(num_steps=50, pairs_per_step=10), seed=2)
    shifted = plan_visits(range(100), Schedule(num_steps=50, pairs_per_step=10, timesteps=Timesteps(shift=3.0)), seed=2)
    for a, b in zip(plain, shifted, strict=True):
        assert b.level == pytest.approx(3 * a.level / (1 + 2 * a.level), abs=1e-3)


def test_without_pairs_the_message_says_what_to_do():
    with pytest.raises(ValueError, match=r"pairs\.filters"):
        plan_visits([], Schedule(num_steps=1), seed=0)
