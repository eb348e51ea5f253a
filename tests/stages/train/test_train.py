"""The fine-tune: its start, its progress and its outputs."""

import json
import math
import re
import shutil

import numpy as np
import pytest

from tests.support.trainings import NUM_STEPS, log_of
from videodpo.dpo.batches import prediction_and_target
from videodpo.dpo.log_rows import STATISTICS, log_row
from videodpo.dpo.objectives import denoising_errors, residual_overlap
from videodpo.dpo.passes import Passes
from videodpo.dpo.policy import build_policy
from videodpo.dpo.progress import describe_step
from videodpo.dpo.visits import Visit
from videodpo.storage.video import read_mp4


@pytest.mark.parametrize("reference", ["precomputed", "online"])
def test_step_0_loss_of_every_pair_is_its_weight_times_ln_2(trainings, reference):
    """All pairs, in the planned micro-batches, before any optimizer step."""
    run = trainings.fresh(reference=reference)
    snapshot = run.snapshot("train")
    passes = Passes(snapshot, run.round_folder, build_policy(snapshot, None, "cpu"))
    num_pairs = len(passes.data.pairs)
    seen = set()
    for first in range(0, -(-num_pairs // 2) * 2, 2):
        result, statistics = passes.learn(range(first, first + 2))
        weights = passes.data.pairs.loc[[visit.pair_id for visit in passes.plan.visits[first : first + 2]], "weight"]
        np.testing.assert_allclose(result.per_pair.tolist(), weights * math.log(2), rtol=0, atol=1e-5)
        np.testing.assert_allclose(statistics[:, 0].tolist(), result.per_pair.tolist())
        seen |= set(weights.index)
    assert len(seen) == num_pairs


def test_training_widens_the_margin(trainings):
    log, _ = trainings.trained(learning_rate=3e-3)
    assert log["margin"].tail(10).mean() > log["margin"].head(5).mean() + 0.05
    assert log["accuracy"].between(0, 1).all()
    assert not log["skipped"].any()


def test_the_training_logs_each_finding_of_the_doctor_once(trainings, caplog):
    log, _ = trainings.trained(learning_rate=0.1, train_runtime={"checkpoint_steps": 10})
    messages = [record.getMessage().split() for record in caplog.records if "winner_drift" in record.getMessage()]
    assert [words[2] for words in messages] in (["alarm"], ["warning", "alarm"])
    assert 19 <= int(messages[-1][1].rstrip(":")) < len(log)


def test_the_log_has_the_share_of_pairs_in_which_the_safeguard_acts(trainings):
    """By definition, the losers' gradients shrink if the overlap exceeds (1 - mu) of the winner's error."""
    run = trainings.fresh(reference="online", objective={"sdpo_mu": 0.5}, schedule={"num_steps": 3})
    run.train()
    snapshot = run.snapshot("train")
    passes = Passes(snapshot, run.round_folder, build_policy(snapshot, None, "cpu"))
    acts = []
    for first in (0, 2):  # the micro-batches of the first step, whose policy is the fresh adapter
        prediction, target = prediction_and_target(passes._model, passes._batch(range(first, first + 2)))
        error = denoising_errors(prediction, target)[:2]
        acts += (0.5 * error < residual_overlap(prediction, target)).tolist()
    shares = log_of(run)["safeguard_share"]
    assert shares[0] == np.mean(acts) > 0
    assert shares.between(0, 1).all()


def test_a_log_without_safeguard_has_no_share_of_it(trainings):
    log, _ = trainings.trained(learning_rate=3e-3)
    assert log["safeguard_share"].isna().all()


def test_a_checkpoint_with_rows_without_newer_columns_is_resumed(trainings):
    plan = {"train_runtime": {"checkpoint_steps": 1}, "schedule": {"num_steps": 4}}
    run = trainings.fresh(reference="online", objective={"sdpo_mu": 0.5}, **plan)
    run.train()
    complete = log_of(run)
    earlier, last = sorted((run.round_folder / "state").glob("*/step-*"))
    shutil.rmtree(last)
    progress = json.loads((earlier / "progress.json").read_text())
    for row in progress["rows"]:
        del row["safeguard_share"]
    (earlier / "progress.json").write_text(json.dumps(progress))
    run.train()
    log = log_of(run)
    assert log["loss"].tolist() == complete["loss"].tolist()
    assert log["safeguard_share"].isna().tolist() == [True, True, True, False]


def test_the_training_loads_no_text_encoder_and_no_vae(trainings):
    run = trainings.variant()
    model = build_policy(run.snapshot("train"), None, "cpu")
    parts = {name for name, part in model.pipe.components.items() if part is not None}
    assert parts == {"transformer", "scheduler"}


def test_auto_beta_gives_the_configured_logit_at_one_spread_of_the_reference(trainings):
    run = trainings.fresh(beta="auto", beta_logit=3.0)
    snapshot = run.snapshot("train")
    passes = Passes(snapshot, run.round_folder, build_policy(snapshot, None, "cpu"))
    spread = (passes.reference[:, 0].astype(float) - passes.reference[:, 1]).std()
    assert passes.beta / 2 * spread == pytest.approx(3.0)


def test_full_fine_tuning_starts_at_ln_2_and_saves_a_transformer(trainings):
    run = trainings.fresh(method="full", learning_rate=1e-5)
    run.train()
    log = log_of(run)
    assert log["loss"][0] == pytest.approx(log["weight_mean"][0] * math.log(2), abs=1e-5)
    assert (run.round_folder / "adapter" / "transformer" / "config.json").is_file()


def test_held_out_pairs_are_evaluated_and_not_trained_on(own_trainings):
    run = own_trainings.fresh(
        schedule={"validation": {"num_prompts": 2, "draws": 3}}, train_runtime={"validation_steps": 20}
    )
    run.reference()
    run.train()
    snapshot = run.snapshot("train")
    plan = Passes(snapshot, run.round_folder, build_policy(snapshot, None, "cpu")).plan
    log = log_of(run)
    assert log.index[log["validation_accuracy"].notna()].tolist() == [19, 39, NUM_STEPS - 1]
    assert log["validation_loss"].dropna().between(0.1, 2).all()
    trained, held_back = ({visit.pair_id for visit in visits} for visits in (plan.training, plan.validation))
    assert not trained & held_back
    assert len(plan.validation) == 3 * len(held_back) > 0


def test_samples_and_curves_are_next_to_the_log(trainings):
    run = trainings.fresh(train_runtime={"trackers": ["tensorboard"], "samples": {"num_prompts": 2, "steps": 25}})
    run.train()
    for step in (25, 50):
        frames, _ = read_mp4(run.round_folder / "samples" / f"step-{step:06d}.mp4")
        assert frames.shape == (5, 32, 64, 3)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = EventAccumulator(str(run.round_folder / "tracking" / "videodpo"))
    curves.Reload()
    found = {event.step: event.value for event in curves.Scalars("train/margin")}
    np.testing.assert_allclose([found[step] for step in range(NUM_STEPS)], log_of(run)["margin"], rtol=1e-5)


def test_the_loss_in_the_log_does_not_depend_on_the_pairs_weights():
    row = {"margin": 1.0, "accuracy": 0.75, "skipped": False, "validation_loss": None, "validation_accuracy": None}
    lines = {describe_step(row | {"loss": weight * math.log(2), "weight_mean": weight}) for weight in (0.5, 1.4)}
    assert lines == {"loss / weight 0.6931 margin +1.0000 accuracy 0.75"}
    assert "loss / weight 0.0000" in describe_step(row | {"loss": 0.0, "weight_mean": 0.0})


@pytest.mark.parametrize(
    ("stage", "made", "line"),
    [
        ("generate", "videos", "batches"),
        ("score", "scores", "clips"),
        ("reference", "reference", "micro-batches"),
        ("train", "state", "steps: loss / weight"),
    ],
)
def test_a_long_stage_logs_done_and_total(own_trainings, caplog, stage, made, line):
    run = own_trainings.variant(schedule={"num_steps": 2}) if stage == "train" else own_trainings.variant()
    caplog.set_level("INFO", logger="videodpo")
    shutil.rmtree(run.round_folder / made, ignore_errors=True)
    if stage == "train":
        run.visits()
        run.reference()
    getattr(run, stage)()
    assert any(re.search(rf"(\d+) of \1 {line}", record.getMessage()) for record in caplog.records)


def test_the_progress_line_of_a_step_that_is_not_finite():
    row = log_row(np.full((2, len(STATISTICS)), np.nan), [Visit(0, 0, 0.5, 1, 500.0), Visit(1, 0, 0.1, 2, 100.0)])
    row |= {"skipped": True, "validation_loss": None, "validation_accuracy": None}
    assert describe_step(row) == "skipped"


def test_a_number_of_processes_that_does_not_divide_the_step_is_refused(trainings):
    from videodpo.dpo.trainer import Training

    run = trainings.variant()
    training = Training.__new__(Training)
    training.schedule, training.train_runtime = run.config.schedule, run.config.train_runtime
    training.num_groups = 3
    with pytest.raises(ValueError, match="2 micro-batches per step cannot be divided evenly among 3 processes"):
        training._check_micro_batches()
