"""Healthy training logs raise no alarm; each fault raises its own alarm."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.support.finished_round import FinishedRound
from videodpo.cli import main
from videodpo.dpo.log_checks import check_log
from videodpo.stages.omniscore import aggregate
from videodpo.storage.schemas import TRAIN_LOG
from videodpo.storage.tables import read_table, write_table

LN_2 = np.log(2)


def healthy(steps=150, seed=0):
    """A log like the demo's: noisy losses, a loser's error that rises twice as fast, drift at all noise levels."""
    rng = np.random.default_rng(seed)
    step = np.arange(steps)
    rise = step / steps
    weight = rng.uniform(1.5, 2.8, steps)
    margin = 4 * rise + np.where(step > 0, rng.normal(0, 0.3, steps), 0)
    log = {
        "step": step,
        "epoch": (step + 1) / 37.5,
        "loss": weight * (LN_2 - 0.15 * rise * (step > 0) * rng.uniform(0, 2, steps)),
        "margin": margin,
        "accuracy": np.clip(0.5 + 0.35 * rise + rng.normal(0, 0.1, steps), 0, 1),
        "ref_error_winner": rng.normal(0.31, 0.03, steps),
        "ref_error_loser": rng.normal(0.33, 0.03, steps),
        "weight_mean": weight,
        "lr": np.full(steps, 3e-5),
        "grad_norm": rng.lognormal(5.5, 0.5, steps),
        "seconds": np.full(steps, 0.5),
        "samples_per_second": np.full(steps, 64.0),
        "max_memory_mb": np.full(steps, 900.0),
    }
    for side, drift in (("winner", -0.002), ("loser", 0.012)):
        log[f"error_{side}"] = log[f"ref_error_{side}"] + drift * rise
        for bucket, share in enumerate((1.8, 0.9, 0.6, 0.7)):
            log[f"{side}_drift_{bucket}"] = drift * rise * share
    return pd.DataFrame(log)


def found(log, **options):
    return {finding.check: finding for finding in check_log(log, **options)}


def not_fine(log, **options):
    return {name: finding.status for name, finding in found(log, **options).items() if finding.status != "fine"}


@pytest.fixture
def doctor(tmp_path, capsys):
    """Function that runs the command on a log; it returns the exit code and the output by check."""

    def call(log, folder="round1"):
        path = tmp_path / folder / "train_log.parquet"
        write_table(path, columns(log), TRAIN_LOG, stage="train", digest="d", seed=0)
        code = main(["doctor", str(path), "--json"])
        return code, {line["check"]: line for line in map(json.loads, capsys.readouterr().out.splitlines())}

    return call


def columns(log):
    """Add the columns that the table has now."""
    absent = {name: False if name == "skipped" else None for name in TRAIN_LOG.names if name not in log}
    return log.assign(**absent)[list(TRAIN_LOG.names)]


@pytest.mark.parametrize("seed", range(5))
def test_a_healthy_log_is_fine(seed):
    assert not_fine(healthy(seed=seed)) == {}


def test_a_healthy_log_exits_with_0(doctor):
    code, said = doctor(healthy())
    assert code == 0
    assert said["winner_drift"]["value"] < 0


def test_the_log_of_a_finished_round_has_no_alarm(tmp_path):
    finished = FinishedRound(tmp_path, clips=False).write()
    aggregate(finished.omniscore_snapshot(), finished.round)
    finished.write_training(read_table(finished.round / "omniscore.parquet"))
    log = pd.read_parquet(tmp_path / "round1" / "train_log.parquet")
    assert "alarm" not in not_fine(log).values()


def test_winners_that_get_worse_with_the_losers_are_an_alarm(doctor):
    log = healthy()
    for side, drift in (("winner", 0.07), ("loser", 0.1)):
        log[f"error_{side}"] = log[f"ref_error_{side}"] + drift * log["step"] / len(log)
    code, said = doctor(log)
    assert code == 3
    assert {name for name, line in said.items() if line["status"] == "alarm"} == {"winner_drift"}
    assert "the loser gets worse" in said["winner_drift"]["advice"]


def test_winners_that_get_a_little_worse_are_a_warning():
    log = healthy()
    log["error_winner"] = log["ref_error_winner"] + 0.008 * log["step"] / len(log)
    assert not_fine(log) == {"winner_drift": "warning"}


def test_a_first_loss_other_than_ln_2_is_an_alarm(doctor):
    log = healthy()
    log.loc[0, "loss"] *= 1.2
    code, said = doctor(log)
    assert (code, said["step_0_loss"]["status"]) == (3, "alarm")
    for folder in ("round2", "round2/state"):
        code, said = doctor(log, folder)
        assert (code, "step_0_loss" in said) == (0, False)


def test_skipped_steps_are_neither_the_start_nor_part_of_a_mean():
    log = healthy().assign(skipped=False)
    for step in (0, len(log) - 1):
        log.loc[step, ["loss", "margin", "error_winner", "error_loser", "grad_norm"]] = np.nan
        log.loc[step, ["ref_error_winner", "ref_error_loser", "skipped"]] = 0.3, 0.9, True
    log.loc[1, ["loss", "margin"]] = LN_2 * log["weight_mean"][1], 0.0
    assert not_fine(log) == {"skipped": "warning"}
    assert "step 1" in found(log)["step_0_loss"].measured


def test_a_log_with_only_skipped_steps_is_an_alarm():
    log = healthy(30).assign(skipped=True, loss=np.nan, grad_norm=np.nan)
    assert not_fine(log) == {"skipped": "alarm"}


def test_a_gradient_below_the_clipping_norm_is_not_a_spike():
    log = healthy()
    log.loc[70, "grad_norm"] = log["grad_norm"].median() * 1000
    assert not_fine(log) == {"spikes": "alarm"}
    assert not_fine(log, max_grad_norm=log["grad_norm"].max()) == {"spikes": "warning"}


def test_a_first_loss_off_by_rounding_is_a_warning():
    log = healthy()
    log.loc[0, "margin"] = 0.02
    assert not_fine(log) == {"step_0_loss": "warning"}


def test_a_log_that_starts_later_is_not_checked_for_its_start():
    assert "step_0_loss" not in found(healthy().tail(100))


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_number_that_is_not_finite(value):
    log = healthy()
    log.loc[40, "grad_norm"] = value
    findings = found(log)
    assert {name: finding.status for name, finding in findings.items()} == {"finite": "alarm"}
    assert "step 40" in findings["finite"].measured
    assert not_fine(log.assign(skipped=log["step"] == 40)) == {}


@pytest.mark.parametrize(("factor", "status"), [(30, "warning"), (1000, "alarm")])
def test_a_gradient_spike(factor, status):
    log = healthy()
    log.loc[70, "grad_norm"] = factor * log["grad_norm"].median()
    assert not_fine(log) == {"spikes": status}
    assert not_fine(log.assign(skipped=log["step"] == 70)) == {}


def test_a_loss_spike():
    log = healthy()
    log.loc[70, "loss"] *= 60
    assert not_fine(log) == {"spikes": "warning"}


@pytest.mark.parametrize(("every", "status"), [(50, "warning"), (5, "alarm")])
def test_skipped_steps(every, status):
    assert not_fine(healthy().assign(skipped=lambda log: log["step"] % every == 1)) == {"skipped": status}


def test_winner_and_loser_that_move_together():
    log = healthy()
    log["error_loser"] = log["ref_error_loser"] + (log["error_winner"] - log["ref_error_winner"]) * 3
    assert not_fine(log) == {"drift_apart": "warning"}


def test_drift_at_one_range_of_noise_levels_only():
    log = healthy()
    for side in ("winner", "loser"):
        for bucket in (0, 1, 2):
            log[f"{side}_drift_{bucket}"] *= 0.05
        log[f"{side}_drift_3"] *= 10
    log.loc[::2, "loser_drift_0"] = None  # no visit in that step
    assert not_fine(log) == {"noise_levels": "warning"}
    assert "0.75 to 1" in found(log)["noise_levels"].measured


def test_a_safeguard_that_never_acts():
    log = healthy()
    assert not_fine(log.assign(safeguard_share=0.0)) == {"safeguard": "warning"}
    assert "train.objective.sdpo_mu" in found(log.assign(safeguard_share=0.0))["safeguard"].advice
    assert "safeguard" not in found(log.head(10).assign(safeguard_share=0.0))  # too few steps


def test_a_safeguard_that_acts_sometimes_or_is_absent():
    log = healthy()
    assert not_fine(log.assign(safeguard_share=np.where(log["step"] == 70, 0.25, 0.0))) == {}
    assert "safeguard" not in found(log.assign(safeguard_share=None))
    resumed = log.assign(safeguard_share=np.where(log["step"] < 75, np.nan, 0.5))  # begun by an earlier version
    assert found(resumed)["safeguard"].value == 0.5


def test_skipped_steps_do_not_count_for_the_safeguard():
    log = healthy().assign(skipped=lambda log: log["step"] == 70)
    log["safeguard_share"] = np.where(log["skipped"], 1.0, 0.0)
    assert not_fine(log) == {"safeguard": "warning"}


def test_saturated_margins():
    log = healthy()
    log["margin"] *= 10
    log["accuracy"] = np.where(log["step"] > 50, 1.0, 0.5)
    assert not_fine(log) == {"saturation": "warning"}


def test_nothing_learned():
    log = healthy()
    log["accuracy"] = np.where(log["step"] % 2, 0.45, 0.55)
    log["margin"] *= 1e-3
    assert not_fine(log) == {"learned": "warning"}


def test_validation_that_falls_while_the_training_rises():
    log = healthy()
    looks = log["step"] % 25 == 0
    falls = log.assign(validation_accuracy=np.where(looks, 0.7 - 0.3 * log["step"] / 150, np.nan))
    rises = log.assign(validation_accuracy=np.where(looks, 0.5 + 0.2 * log["step"] / 150, np.nan))
    assert not_fine(falls) == {"overfit": "warning"}
    assert not_fine(rises) == {}
    assert "overfit" not in found(log.assign(validation_accuracy=None))


def test_a_training_that_has_just_begun_is_not_judged():
    assert not_fine(healthy().head(5)) == {}
    assert "winner_drift" not in found(healthy().head(5))
    assert not_fine(healthy().head(0)) == {"log": "warning"}


def test_another_table_is_refused(tmp_path, capsys):
    FinishedRound(tmp_path, clips=False).write()
    assert main(["doctor", str(tmp_path / "prompts.parquet")]) == 1
    assert "a train_log.parquet is needed" in capsys.readouterr().err
