"""Objectives, optimizers and memory options, each through an entire training."""

import math
import warnings

import numpy as np
import pytest
import torch

from tests.support.trainings import OfFamily, adapter_of, log_of


@pytest.mark.parametrize("objective", [{"loss": "sft"}, {"loss": "ipo"}, {"loss": "hinge"}, {"loss": "mapo"}])
def test_every_objective_trains(trainings, objective):
    log, _ = trainings.trained(objective=objective, learning_rate=3e-3)
    assert log["loss"].tail(10).mean() < log["loss"].head(4).mean()


def test_the_safeguard_and_the_added_error_hold_the_winner(trainings):
    drifts = {}
    for name, options in {"dpo": {}, "sdpo_mu": {"sdpo_mu": 0.5}, "sft": {"sft_weight": 200.0}}.items():
        log, _ = trainings.trained(objective=options, learning_rate=3e-3)
        drifts[name] = (log["error_winner"] - log["ref_error_winner"]).tail(10).mean()
    assert drifts["sdpo_mu"] < drifts["dpo"]
    assert drifts["sft"] < drifts["dpo"]


@pytest.mark.parametrize("quirk", ["separate_noise", "logit_per_column"])
def test_quirks_of_the_released_code_can_be_enabled(trainings, quirk):
    plain, _ = trainings.trained(reference="online", lora={"rank": 4, "dropout": 0.5})
    odd, _ = trainings.trained(
        reference="online", lora={"rank": 4, "dropout": 0.5}, objective={"official_code": {quirk: True}}
    )
    assert np.isfinite(odd["loss"]).all()
    assert not np.allclose(plain["loss"], odd["loss"], atol=1e-6)


@pytest.mark.parametrize("optimizer", ["adamw_8bit", "adamw_fp8"])
def test_moments_in_8_bits_train_nearly_the_same(trainings, optimizer):
    # Layers with fewer than 4096 weights keep float32.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        low, _ = trainings.trained(optimizer=optimizer, lora={"rank": 64}, learning_rate=3e-4)
    full, _ = trainings.trained(lora={"rank": 64}, learning_rate=3e-4)
    assert not np.array_equal(low["loss"], full["loss"])
    np.testing.assert_allclose(low["loss"], full["loss"], atol=0.05)


def test_offloaded_activations_change_nothing(trainings):
    plain, _ = trainings.trained()
    offloaded, _ = trainings.trained(train_runtime={"offload_activations": True})
    np.testing.assert_array_equal(plain["loss"], offloaded["loss"])


def test_caption_dropout_trains_from_ln_2_on(trainings):
    settings = {"reference": "online", "learning_rate": 3e-3}
    plain, _ = trainings.trained(**settings)
    log, _ = trainings.trained(**settings, caption_dropout=0.5)
    assert log["loss"][0] == pytest.approx(log["weight_mean"][0] * math.log(2), abs=1e-5)
    assert not np.allclose(log["error_winner"], plain["error_winner"], rtol=0, atol=1e-7)
    assert log["margin"].tail(10).mean() > log["margin"].head(5).mean() + 0.05


@pytest.fixture(scope="module")
def of_a_unet(tmp_path_factory):
    """Trainings of a U-Net, which has its own dropout."""
    made = OfFamily("text_to_video_sd", tmp_path_factory.mktemp("unet"))
    made.variant().until_pairs()
    return made


def test_network_dropout_is_drawn_separately_for_policy_and_reference(of_a_unet):
    logs = {}
    for name, wanted in {"off": False, "on": True, "on again": True}.items():
        run = of_a_unet.fresh(reference="online", objective={"official_code": {"network_dropout": wanted}})
        run.train()
        logs[name] = log_of(run)
        assert all(torch.isfinite(value).all() for value in adapter_of(run).values())
    ln_2 = logs["off"]["weight_mean"][0] * math.log(2)
    assert logs["off"]["loss"][0] == pytest.approx(ln_2, abs=1e-5)
    assert abs(logs["on"]["loss"][0] - ln_2) > 1e-3
    for column in ("error_winner", "ref_error_winner"):
        assert abs(logs["on"][column][0] / logs["off"][column][0] - 1) > 1e-4
    assert not np.allclose(logs["on"]["error_winner"][0], logs["on"]["ref_error_winner"][0], rtol=1e-4)
    np.testing.assert_array_equal(logs["on again"]["loss"], logs["on"]["loss"])
