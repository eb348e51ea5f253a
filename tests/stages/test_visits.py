"""The plan of visits: order, counters, noise levels, sizes, and its table."""

import hashlib
import json
from collections import Counter
from itertools import groupby

import numpy as np
import pandas as pd
import pytest
import torch

from tests.conftest import ROOT
from tests.support.families import FAMILIES, write
from videodpo.config import Model, Sampling, Schedule, Timesteps, parse_config
from videodpo.config.training import Validation
from videodpo.dpo.visits import read_visits
from videodpo.models import load_model, make_schedule
from videodpo.models.shared.noise_schedules import FlowMatching
from videodpo.runtime.settings import VisitsSettings
from videodpo.runtime.snapshot import snapshot_text
from videodpo.stages.visits import choose_visits, sampler_levels
from videodpo.storage.schemas import VISITS
from videodpo.storage.tables import read_rows, read_shards, read_table, write_table

WIDE, TALL, LONG = (5, 32, 64), (5, 64, 32), (9, 32, 32)


def paired(sizes):
    """Two pairs per prompt with these sizes, and the sizes of their clips."""
    numbers = range(len(sizes))
    pairs = pd.DataFrame({"pair_id": numbers, "prompt_id": [f"p{number // 2}" for number in numbers]})
    pairs = pairs.assign(winner_id=[f"w{number}" for number in numbers], loser_id=[f"l{number}" for number in numbers])
    return pairs, {f"{side}{number}": size for number, size in enumerate(sizes) for side in "wl"}


def planned(sizes, *, num_prompts=0, draws=1, seed=11, **schedule):
    """Planned rows of the table."""
    schedule = Schedule(validation=Validation(num_prompts=num_prompts, draws=draws), **schedule)
    return pd.DataFrame(choose_visits(*paired(sizes), schedule, seed, FlowMatching()))


def training(num_pairs, seed=0, **schedule):
    """Training rows for pairs of one size."""
    return planned([WIDE] * num_pairs, seed=seed, **schedule)


def passes(plan):
    """Rows grouped by forward pass."""
    return [run for _, run in plan.groupby("micro_batch", sort=False)]


def test_every_pair_is_visited_once_per_epoch():
    plan = training(6, num_steps=3, global_batch_size=4)
    assert sorted(plan["pair_id"][:6]) == list(range(6))
    assert plan["visit"].tolist() == [0] * 6 + [1] * 6


def test_a_step_has_one_global_batch_of_full_micro_batches():
    plan = training(6, num_steps=3, global_batch_size=4, micro_batch_size=2)
    assert plan["step"].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert plan["micro_batch"].tolist() == [number // 2 for number in range(12)]


def test_micro_batch_size_and_number_of_steps_do_not_change_the_draws():
    drawn = ["pair_id", "visit", "noise_level", "noise_seed", "timestep"]
    long = training(6, num_steps=9, global_batch_size=4, micro_batch_size=2)
    short = training(6, num_steps=3, global_batch_size=4, micro_batch_size=4)
    assert long[drawn][:12].equals(short[drawn])


def test_no_two_visits_share_noise():
    assert training(50, num_steps=40, global_batch_size=5)["noise_seed"].is_unique


def test_uniform_noise_levels_fill_the_configured_range():
    plan = training(100, num_steps=100, global_batch_size=10, timesteps=Timesteps(low=0.2, high=0.6))
    assert plan["noise_level"].between(0.2, 0.6).all()
    assert abs(plan["noise_level"].mean() - 0.4) < 0.02


def test_shift_moves_noise_levels_towards_noise():
    plain = training(100, num_steps=50, global_batch_size=10)["noise_level"]
    shifted = training(100, num_steps=50, global_batch_size=10, timesteps=Timesteps(shift=3.0))["noise_level"]
    np.testing.assert_allclose(shifted, 3 * plain / (1 + 2 * plain), rtol=0, atol=1e-3)


def test_match_sampler_visits_every_step_of_the_sampler_equally():
    """The demo's 12 steps at its flow shift of 2: q = 2 s / (1 + s), also for the last trained level."""
    settings = Model(weights=str(ROOT / "demo" / "text_to_video"), family="wan", dtype="float32")
    sampling = Sampling(num_frames=WIDE[0], height=WIDE[1], width=WIDE[2], num_steps=12)
    visits = VisitsSettings(
        schedule=Schedule(num_steps=600, global_batch_size=4, timesteps=Timesteps(distribution="match_sampler")),
        model=settings,
        sampler=sampling,
    )
    levels = sampler_levels(visits, {WIDE})
    plan = pd.DataFrame(choose_visits(*paired([WIDE] * 40), visits.schedule, 3, FlowMatching(), levels))
    counts = plan["noise_level"].round(3).value_counts(normalize=True).sort_index(ascending=False)
    positions = np.linspace(1, 2 * 0.001 / 1.001, 12)
    np.testing.assert_allclose(counts.index, 2 * positions / (1 + positions), rtol=0, atol=1e-3)
    np.testing.assert_allclose(counts, 1 / 12, rtol=0, atol=0.03)


@pytest.mark.parametrize("distribution", ["uniform", "logit_normal", "match_sampler"])
def test_the_visits_snapshot_has_the_sampler_only_with_match_sampler(small_config, distribution):
    raw = small_config()
    raw["schedule"]["timesteps"] = {"distribution": distribution}
    settings = json.loads(snapshot_text(parse_config(raw), "visits"))["settings"]
    assert (settings["sampler"] is not None) == (distribution == "match_sampler")


def test_without_pairs_the_message_says_what_to_do():
    with pytest.raises(ValueError, match=r"pairs\.filters"):
        training(0, num_steps=1)


@pytest.mark.parametrize(
    ("num_pairs", "num_prompts", "held_back"), [(120, 20, 20), (120, 50, 20), (10, 50, 1), (2, 50, 0)]
)
def test_at_most_a_third_of_the_prompts_is_held_out(caplog, num_pairs, num_prompts, held_back):
    plan = planned([WIDE] * num_pairs, num_prompts=num_prompts, num_steps=1)
    measured = plan.loc[plan["split"] == "validation", "pair_id"]
    assert measured.tolist() == sorted(measured)
    assert measured.nunique() == 2 * held_back
    prompts = num_pairs // 2
    warning = f"num_prompts: {num_prompts}; only {held_back} are for validation, a third of the {prompts} prompts"
    assert (warning in caplog.text) == (held_back < num_prompts)


# --- sizes


MIXED = [(WIDE, TALL, LONG)[number % 3] for number in range(26)] + [LONG] * 4  # 9 wide, 9 tall, 12 long pairs


def test_the_plan_of_one_size_equals_the_recorded_one():
    plan = planned([WIDE] * 11, num_prompts=2, draws=2, num_steps=5, global_batch_size=6, micro_batch_size=3)
    rows = plan[["pair_id", "visit", "noise_level", "noise_seed"]].itertuples(index=False, name=None)
    text = ", ".join(
        f"Visit(pair_id={pair_id}, visit={visit}, level={noise_level!r}, noise_seed={noise_seed})"
        for pair_id, visit, noise_level, noise_seed in rows
    )
    recorded = "50e135ae3454af5c36924d9aebccd5ff798dc155f972b0bd57d326804b4e595c"
    assert hashlib.sha256(f"[{text}]".encode()).hexdigest() == recorded
    assert plan["micro_batch"].tolist() == [number // 3 for number in range(36)]


def test_validation_visits_come_last_without_a_step():
    plan = planned([WIDE] * 11, num_prompts=2, draws=2, num_steps=5, global_batch_size=6, micro_batch_size=3)
    assert plan["split"].tolist() == ["train"] * 30 + ["validation"] * 6
    assert plan["step"].notna().tolist() == [True] * 30 + [False] * 6
    held_back = plan[30:]
    assert list(zip(held_back["pair_id"], held_back["visit"], strict=True)) == [
        (4, 0),
        (4, 1),
        (5, 0),
        (5, 1),
        (10, 0),
        (10, 1),
    ]


def test_a_forward_pass_takes_pairs_of_one_size():
    plan = planned(MIXED, num_prompts=3, draws=3, num_steps=40, global_batch_size=8, micro_batch_size=4)
    assert all(len({MIXED[pair_id] for pair_id in run["pair_id"]}) == 1 for run in passes(plan))


def test_micro_batches_are_numbered_in_order_and_full_in_the_training():
    plan = planned(MIXED, num_prompts=3, draws=3, num_steps=40, global_batch_size=8, micro_batch_size=4)
    assert plan["micro_batch"].is_monotonic_increasing
    assert {len(run) for run in passes(plan[plan["split"] == "train"])} == {4}
    assert (plan["split"] == "train").sum() == 320


def test_a_validation_micro_batch_is_short_only_at_the_end_of_a_size():
    plan = planned(MIXED, num_prompts=4, draws=3, num_steps=1, global_batch_size=4, micro_batch_size=4)
    validation = plan[plan["split"] == "validation"]
    runs = [(MIXED[run["pair_id"].iloc[0]], len(run)) for run in passes(validation)]
    lengths = [[length for _, length in group] for _, group in groupby(runs, key=lambda run: run[0])]
    assert len(lengths) == 3
    assert all(set(of_size[:-1]) <= {4} for of_size in lengths)
    assert len(validation) == 4 * 2 * 3


@pytest.mark.parametrize("micro_batch_size", [1, 2, 4, 8])
def test_every_pair_of_a_size_is_visited_equally_often(micro_batch_size):
    """Within a size, visits differ by at most one; at the end, fewer than a micro-batch per size is waiting."""
    plan = planned(MIXED, num_steps=61, global_batch_size=8, micro_batch_size=micro_batch_size)
    counts = Counter(plan["pair_id"])
    begun = plan["visit"].max() + 1
    for size in (WIDE, TALL, LONG):
        of_size = [counts[pair_id] for pair_id, its in enumerate(MIXED) if its == size]
        assert max(of_size) - min(of_size) <= 1
        assert sum(of_size) > (begun - 1) * len(of_size) - micro_batch_size


def test_visits_of_a_pair_are_counted_without_gaps():
    plan = planned(MIXED, num_steps=61, global_batch_size=8, micro_batch_size=4)
    for _, visits in plan.groupby("pair_id")["visit"]:
        assert visits.tolist() == list(range(len(visits)))


def test_a_size_with_fewer_pairs_than_a_micro_batch_is_visited_too():
    plan = planned([TALL] + [WIDE] * 7, num_steps=32, global_batch_size=4, micro_batch_size=4)
    assert plan.loc[plan["pair_id"] == 0, "visit"].tolist() == list(range(16))


def test_sizes_change_neither_noise_nor_noise_levels():
    drawn = ["pair_id", "visit", "noise_level", "noise_seed"]
    alike = planned([WIDE] * 29, num_steps=20, global_batch_size=8, micro_batch_size=4)[drawn]
    mixed = planned(MIXED, num_steps=20, global_batch_size=8, micro_batch_size=4)[drawn]
    common = mixed.merge(alike, on=["pair_id", "visit"], suffixes=("", "_alike"))
    assert len(common) > 100
    assert common["noise_level"].equals(common["noise_level_alike"])
    assert common["noise_seed"].equals(common["noise_seed_alike"])


def test_a_pair_of_two_sizes_is_refused_by_its_number():
    pairs, sizes = paired([WIDE] * 4)
    with pytest.raises(ValueError, match="pair 2: the winner has 5 x 32 x 64, the loser 5 x 64 x 32"):
        choose_visits(pairs, sizes | {"l2": TALL}, Schedule(num_steps=1), 0, FlowMatching())


def test_a_pair_with_a_missing_video_is_refused():
    pairs, sizes = paired([WIDE] * 4)
    del sizes["l3"]
    with pytest.raises(ValueError, match="video l3 is not among"):
        choose_visits(pairs, sizes, Schedule(num_steps=1), 0, FlowMatching())


# --- timesteps


@pytest.mark.parametrize("name", FAMILIES)
def test_timesteps_without_loading_weights_equal_the_loaded_models(name, tmp_path):
    family, noise_level = FAMILIES[name], torch.linspace(0.001, 0.999, 300)
    settings = Model(
        family=family.family,
        weights=str(write(family, tmp_path)),
        dtype="float32",
        max_sequence_length=family.text_tokens,
    )
    expected = load_model(settings, "cpu").noise_schedule.timestep(noise_level)
    for file in [path for path in tmp_path.rglob("*") if path.suffix in (".safetensors", ".ckpt", ".pt")]:
        file.unlink()
    assert make_schedule(settings).timestep(noise_level).equal(expected)


# --- the table


@pytest.fixture
def run(own_trainings):
    return own_trainings.fresh()


def edited(run, change):
    """Apply `change` to the list of rows and write the visits."""
    path = run.round_folder / "visits.parquet"
    rows = read_rows(path)
    change(rows)
    write_table(path, rows, VISITS, stage="visits", digest="of a person", seed=0)


def test_the_plan_is_read_back_as_written(run):
    run.config = run.config.model_copy(
        update={"schedule": run.config.schedule.model_copy(update={"validation": Validation(num_prompts=2, draws=3)})}
    )
    run.visits()
    table = read_table(run.round_folder / "visits.parquet")
    pairs = read_table(run.round_folder / "pairs.parquet")
    plan = read_visits(run.round_folder)
    for name in ("pair_id", "visit", "noise_level", "noise_seed", "timestep"):
        assert [getattr(visit, name) for visit in plan.visits] == table[name].tolist()
    assert len(plan.training) == (table["split"] == "train").sum()
    assert [len(batch) for batch in plan.micro_batches] == table.groupby("micro_batch").size().tolist()
    held_back = table.loc[table["split"] == "validation", "pair_id"].nunique()
    assert plan.num_pairs == len(pairs) - held_back < len(pairs)


def test_reference_errors_have_the_rows_of_the_visits(run):
    run.reference()
    columns = ["pair_id", "visit", "timestep", "noise_seed"]
    visits = read_table(run.round_folder / "visits.parquet")
    assert read_shards(run.round_folder / "reference")[columns].equals(visits[columns])


def test_a_visit_of_an_unknown_pair_is_refused(run):
    edited(run, lambda rows: rows[5].update(pair_id=10_000))
    with pytest.raises(
        ValueError, match=r"visits\.parquet: pair 10000 is not in pairs\.parquet; re-run the stage visits"
    ):
        run.train()


def test_rows_out_of_order_are_refused(run):
    edited(run, list.reverse)
    with pytest.raises(ValueError, match=r"visits\.parquet: rows must be in the order of their steps"):
        run.train()


@pytest.mark.parametrize("schedule", [{"num_steps": 60}, {"micro_batch_size": 4}])
def test_the_visits_of_another_schedule_are_refused(own_trainings, run, schedule):
    other = own_trainings.variant(schedule=schedule)
    with pytest.raises(
        ValueError, match=r"visits\.parquet: 200 visits for the training, \d+ steps of 4 in micro-batches"
    ):
        other.train()


def test_edited_visits_need_new_reference_errors(run):
    run.reference()
    edited(run, lambda rows: rows[0].update(noise_seed=1))
    with pytest.raises(ValueError, match="reference: the table was made for other pairs or another schedule"):
        run.train()
