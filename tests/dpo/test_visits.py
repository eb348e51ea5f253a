"""The plan of visits: order, counters and noise levels."""

import hashlib
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from videodpo.config import Schedule, Timesteps
from videodpo.config.training import Validation
from videodpo.dpo.visits import make_plan, plan_visits

WIDE, TALL, LONG = (5, 32, 64), (5, 64, 32), (9, 32, 32)


def test_every_pair_is_visited_once_an_epoch():
    visits = plan_visits(range(6), Schedule(num_steps=3, global_batch_size=4), seed=0)
    assert sorted(visit.pair_id for visit in visits[:6]) == list(range(6))
    assert [visit.visit for visit in visits] == [0] * 6 + [1] * 6


def test_micro_batch_and_length_do_not_change_the_draws():
    long = plan_visits(range(6), Schedule(num_steps=9, global_batch_size=4, micro_batch_size=2), seed=0)
    short = plan_visits(range(6), Schedule(num_steps=3, global_batch_size=4, micro_batch_size=4), seed=0)
    assert long[:12] == short


def test_no_two_visits_share_noise():
    visits = plan_visits(range(50), Schedule(num_steps=40, global_batch_size=5), seed=1)
    assert len({visit.noise_seed for visit in visits}) == len(visits)


def test_uniform_levels_fill_the_configured_range():
    timesteps = Timesteps(low=0.2, high=0.6)
    visits = plan_visits(range(100), Schedule(num_steps=100, global_batch_size=10, timesteps=timesteps), seed=2)
    levels = np.array([visit.noise_level for visit in visits])
    assert levels.min() >= 0.2
    assert levels.max() <= 0.6
    assert abs(levels.mean() - 0.4) < 0.02


def test_shift_moves_levels_towards_noise():
    plain = plan_visits(range(100), Schedule(num_steps=50, global_batch_size=10), seed=2)
    shifted = plan_visits(
        range(100), Schedule(num_steps=50, global_batch_size=10, timesteps=Timesteps(shift=3.0)), seed=2
    )
    for a, b in zip(plain, shifted, strict=True):
        assert b.noise_level == pytest.approx(3 * a.noise_level / (1 + 2 * a.noise_level), abs=1e-3)


def test_without_pairs_the_message_says_what_to_do():
    with pytest.raises(ValueError, match=r"pairs\.filters"):
        plan_visits([], Schedule(num_steps=1), seed=0)


# --- sizes


def paired(sizes):
    """Two pairs a prompt, of these sizes; and the sizes of their clips."""
    numbers = range(len(sizes))
    pairs = pd.DataFrame({"pair_id": numbers, "prompt_id": [f"p{number // 2}" for number in numbers]})
    pairs = pairs.assign(winner_id=[f"w{number}" for number in numbers], loser_id=[f"l{number}" for number in numbers])
    return pairs, {f"{side}{number}": size for number, size in enumerate(sizes) for side in "wl"}


def planned(sizes, *, num_prompts=0, draws=1, **schedule):
    validation = Validation(num_prompts=num_prompts, draws=draws)
    return make_plan(*paired(sizes), Schedule(validation=validation, **schedule), seed=11)


def runs_of(plan):
    return [plan.visits[run.start : run.stop] for run in plan.micro_batches]


MIXED = [(WIDE, TALL, LONG)[number % 3] for number in range(26)] + [LONG] * 4  # 9 wide, 9 tall, 12 long pairs


def test_the_plan_of_one_size_is_the_one_that_it_was_before_there_were_sizes():
    plan = planned([WIDE] * 9, num_prompts=2, draws=2, num_steps=5, global_batch_size=6, micro_batch_size=3)
    assert [visit.pair_id for visit in plan.training[:12]] == [3, 6, 2, 0, 1, 7, 3, 1, 6, 2, 7, 0]
    assert [(visit.pair_id, visit.visit) for visit in plan.validation] == [
        (4, 0),
        (4, 1),
        (5, 0),
        (5, 1),
        (8, 0),
        (8, 1),
    ]
    recorded = "8b6c1df8100c6679cf987a3b35412619373ae773d5e6317a9ac43c8ce29a8e8d"
    assert hashlib.sha256(repr(plan.visits).replace("noise_level", "level").encode()).hexdigest() == recorded
    assert plan.micro_batches == [range(start, start + 3) for start in range(0, 36, 3)]


def test_a_forward_pass_takes_pairs_of_one_size():
    plan = planned(MIXED, num_prompts=3, draws=3, num_steps=40, global_batch_size=8, micro_batch_size=4)
    assert all(len({MIXED[visit.pair_id] for visit in run}) == 1 for run in runs_of(plan))


def test_runs_follow_each_other_and_cover_the_plan():
    plan = planned(MIXED, num_prompts=3, draws=3, num_steps=40, global_batch_size=8, micro_batch_size=4)
    assert [place for run in plan.micro_batches for place in run] == list(range(len(plan.visits)))
    assert {len(run) for run in plan.micro_batches if run.start < len(plan.training)} == {4}
    assert len(plan.training) == 320


def test_a_run_of_validation_is_short_only_at_the_end_of_a_size():
    plan = planned(MIXED, num_prompts=4, draws=3, num_steps=1, global_batch_size=4, micro_batch_size=4)
    lengths = {}
    for run in plan.validation_micro_batches:
        lengths.setdefault(MIXED[plan.visits[run.start].pair_id], []).append(len(run))
    assert len(lengths) == 3
    assert all(set(of_size[:-1]) <= {4} for of_size in lengths.values())
    assert sum(map(sum, lengths.values())) == len(plan.validation) == 4 * 2 * 3


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4, 8])
def test_no_pair_is_left_behind(micro_batch_size):
    """Within a size visits differ by one at most; of a size, fewer than a run wait when the training ends."""
    plan = planned(MIXED, num_steps=61, global_batch_size=8, micro_batch_size=micro_batch_size)
    counts = Counter(visit.pair_id for visit in plan.training)
    begun = max(visit.visit for visit in plan.training) + 1
    for size in (WIDE, TALL, LONG):
        of_size = [counts[pair_id] for pair_id, its in enumerate(MIXED) if its == size]
        assert max(of_size) - min(of_size) <= 1
        assert sum(of_size) > (begun - 1) * len(of_size) - micro_batch_size


def test_visits_of_a_pair_are_counted_without_gaps():
    plan = planned(MIXED, num_steps=61, global_batch_size=8, micro_batch_size=4)
    for pair_id in range(len(MIXED)):
        numbers = [visit.visit for visit in plan.training if visit.pair_id == pair_id]
        assert numbers == list(range(len(numbers)))


def test_a_size_with_fewer_pairs_than_a_run_comes_up_too():
    plan = planned([TALL] + [WIDE] * 7, num_steps=32, global_batch_size=4, micro_batch_size=4)
    rare = [run for run in runs_of(plan) if run[0].pair_id == 0]
    assert len(rare) == 4
    assert [visit.visit for run in rare for visit in run] == list(range(16))


def test_sizes_change_neither_noise_nor_levels():
    alike = planned([WIDE] * 29, num_steps=20, global_batch_size=8, micro_batch_size=4)
    mixed = planned(MIXED, num_steps=20, global_batch_size=8, micro_batch_size=4)
    known = {(visit.pair_id, visit.visit): visit for visit in alike.training}
    common = [visit for visit in mixed.training if (visit.pair_id, visit.visit) in known]
    assert len(common) > 100
    assert all(known[visit.pair_id, visit.visit] == visit for visit in common)


def test_a_pair_of_two_sizes_is_refused_by_its_number():
    pairs, sizes = paired([WIDE] * 4)
    with pytest.raises(ValueError, match="pair 2: the winner has 5 x 32 x 64, the loser 5 x 64 x 32"):
        make_plan(pairs, sizes | {"l2": TALL}, Schedule(num_steps=1), seed=0)


def test_a_pair_of_a_video_that_is_not_there_is_refused():
    pairs, sizes = paired([WIDE] * 4)
    del sizes["l3"]
    with pytest.raises(ValueError, match="video l3 is not among"):
        make_plan(pairs, sizes, Schedule(num_steps=1), seed=0)
