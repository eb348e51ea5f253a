"""Skipped steps: losses that are not finite, exploding gradients, and when a training gives up."""

import math
import re
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from tests.support.trainings import NUM_STEPS, adapter_of, log_of
from videodpo.config import Train
from videodpo.dpo.guards import should_abort, skip_reason
from videodpo.dpo.loss_scale import loss_scale
from videodpo.dpo.passes import Passes
from videodpo.dpo.policy import build_policy
from videodpo.dpo.trainer import Training
from videodpo.runtime.giving_up import has_given_up
from videodpo.storage.tables import read_table
from videodpo.storage.tensors import write_tensors

# One pair per step, so that a bad pair affects few steps; no reference table, which depends on the changed latents; an
# objective whose gradient stays after a pair is won; full fine-tuning, because norms before a LoRA remove the scale.
ONE_A_STEP = {
    "reference": "online",
    "schedule": {"global_batch_size": 1, "micro_batch_size": 1},
    "method": "full",
    "objective": {"loss": "ipo"},
    "learning_rate": 1e-5,
}


@contextmanager
def scaled_latents(trainings, factor, pair=None):
    """Multiply a loser's latents (default: the first pair's) by a factor, restored at the end; yield pairs with it."""
    run = trainings.variant()
    pairs = read_table(run.round_folder / "pairs.parquet")
    loser = pairs["loser_id"][0] if pair is None else pairs.set_index("pair_id")["loser_id"][pair]
    videos = read_table(run.round_folder / "videos" / "shard-00000.parquet").set_index("video_id")
    name, _, row = videos["latents"][loser].partition("#")
    path = run.folder / name
    tensors = load_file(path)
    write_tensors(path, tensors | {row: tensors[row] * factor})
    try:
        yield set(pairs.loc[(pairs["loser_id"] == loser) | (pairs["winner_id"] == loser), "pair_id"])
    finally:
        write_tensors(path, tensors)


@pytest.fixture
def broken_pair(trainings):
    """Pairs with a clip whose latents are NaN."""
    with scaled_latents(trainings, torch.nan) as pairs:
        yield pairs


@pytest.fixture
def huge_pair(trainings):
    """Pairs with a clip whose latents are much too large: the loss stays finite, the gradient explodes."""
    with scaled_latents(trainings, 1e4) as pairs:
        yield pairs


def test_steps_whose_loss_is_not_finite_are_skipped_and_counted(trainings, broken_pair):
    run = trainings.fresh(reference="online", max_skipped_steps=50)
    run.train()
    log = log_of(run)
    assert 0 < log["skipped"].sum() < NUM_STEPS
    assert log.loc[log["skipped"], "loss"].isna().all()
    assert log.loc[~log["skipped"], "loss"].notna().all()
    assert all(torch.isfinite(value).all() for value in adapter_of(run).values())


def test_validation_pairs_that_are_not_finite_are_named_and_left_out(trainings, caplog):
    schedule = {"validation": {"num_prompts": 2, "draws": 1}}
    run = trainings.fresh(reference="online", schedule=schedule, train_runtime={"validation_steps": 20})
    snapshot = run.snapshot("train")
    held_back = Passes(snapshot, run.round_folder, build_policy(snapshot, None, "cpu")).plan.validation
    with scaled_latents(trainings, torch.nan, held_back[0].pair_id) as broken:
        run.train()
    assert {visit.pair_id for visit in held_back} - broken
    log = log_of(run)
    assert log["validation_loss"].notna().sum() == log["validation_accuracy"].notna().sum() == 3
    assert f"step 19: validation errors that are not finite are left out: pair {held_back[0].pair_id}" in caplog.text


def test_too_many_bad_steps_stop_with_step_pair_and_timestep_named(trainings, broken_pair):
    run = trainings.fresh(reference="online", max_skipped_steps=0)
    message = r"step \d+: the loss is not finite, after 0 .*; pair \d+ at timestep"
    with pytest.raises(RuntimeError, match=message) as error:
        run.train()
    named = set(map(int, re.findall(r"pair (\d+)", str(error.value))))
    assert named == broken_pair
    assert has_given_up(run.round_folder, "train")


def test_a_gradient_far_above_the_median_is_skipped():
    settings = Train(beta=1.0, skip_above_median=10.0, max_skipped_steps=1)
    rows = [{"grad_norm": 1.0, "skipped": False}] * 10
    losses = np.zeros(2)
    assert skip_reason(9.0, losses, rows, settings) is None
    assert "10 times the usual 1" in skip_reason(11.0, losses, rows, settings)
    won = [{"grad_norm": 0.0, "skipped": False}] * 10
    assert skip_reason(0.9, losses, won, settings) is None  # clipping does not change it
    assert "usual 0" in skip_reason(1.1, losses, won, settings)
    assert skip_reason(11.0, losses, rows[:9], settings) is None  # too few steps for a median
    assert "gradient is not finite" in skip_reason(math.inf, losses, rows, settings)
    skipped = {"grad_norm": 11.0, "skipped": True}
    assert not should_abort([*rows, skipped], settings)
    assert should_abort([*rows, skipped, skipped], settings)
    assert not should_abort([*rows, skipped, rows[0], skipped], settings)


def test_a_step_with_an_exploding_gradient_changes_nothing_and_is_counted(trainings, huge_pair):
    run = trainings.fresh(**ONE_A_STEP, max_skipped_steps=50)
    training = Training(run.snapshot("train"), run.round_folder, None, Accelerator(cpu=True))
    rows, moved = [], []
    for step in range(NUM_STEPS):
        before = [weight.detach().clone() for weight in training.weights]
        rows.append(training._step(step, rows))
        moved.append(not all(map(torch.equal, before, training.weights)))
    skipped = [row["skipped"] for row in rows]
    huge = [visit.pair_id in huge_pair for visit in training.passes.plan.training[:NUM_STEPS]]
    assert not any(skipped[:10])  # too few steps for a median
    assert skipped[10:] == huge[10:]
    assert any(skipped)
    assert moved == [not skip for skip in skipped]
    usual = np.median([row["grad_norm"] for row in rows if not row["skipped"]])
    for row in rows:
        assert not row["skipped"] or (math.isfinite(row["loss"]) and row["grad_norm"] > 100 * usual)


def test_an_exploding_gradient_stops_with_step_pair_and_timestep_named(trainings, huge_pair):
    run = trainings.fresh(**ONE_A_STEP, max_skipped_steps=0)
    message = r"step (\d+): the gradient norm .* is above 100 times the usual .*, after 0 .*; pair (\d+) at timestep \d"
    with pytest.raises(RuntimeError, match=message) as error:
        run.train()
    step, pair = map(int, re.search(message, str(error.value)).groups())
    assert pair in huge_pair
    log = read_table(run.round_folder / "state" / "train_log.parquet")
    assert log.index[log["skipped"]].tolist() == [step] == [len(log) - 1]
    assert not (run.round_folder / "adapter").exists()


def test_the_loss_scale_follows_from_the_log():
    assert loss_scale([], "bfloat16") is None
    assert loss_scale([], "float16") == 65536.0
    fine = {"loss": 0.7, "grad_norm": 1.0, "skipped": False, "loss_scale": 256.0}
    overflow = fine | {"grad_norm": None, "skipped": True}
    assert loss_scale([fine], "float16") == 256.0
    assert loss_scale([fine, overflow], "float16") == 128.0
    assert loss_scale([fine] * 1999, "float16") == 256.0
    assert loss_scale([fine] * 2000, "float16") == 512.0
    assert loss_scale([fine | {"loss_scale": 128.0}, *[fine] * 1999], "float16") == 256.0
    # A loss that is not finite is the pair's fault, as is a gradient that overflows at the smallest scale.
    assert loss_scale([overflow | {"loss": None}], "float16") == 256.0
    settings = Train(beta=1.0, max_skipped_steps=0)
    assert not should_abort([overflow] * 20, settings)
    assert should_abort([overflow | {"loss": None}], settings)
    assert should_abort([overflow | {"loss_scale": 1.0}], settings)
