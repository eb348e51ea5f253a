"""Options of the training that change what is trained, through the real trainer."""

import math

import numpy as np
import pytest
import torch

from tests.support.trainings import NUM_STEPS, OfFamily, adapter_of, log_of
from videodpo.dpo.passes import Passes
from videodpo.dpo.policy import build_policy
from videodpo.models.shared.prompt_embeds import EMPTY, CachedTexts


def test_dropped_captions_are_the_empty_one_as_often_as_configured(trainings):
    """Of policy and reference alike, winner and loser alike, and the same when a run of visits comes again."""
    run = trainings.variant(reference="online", caption_dropout=0.3)
    snapshot = run.snapshot("train")
    passes = Passes(snapshot, run.round_folder, build_policy(snapshot, None, "cpu"))
    texts = CachedTexts(run.round_folder)
    prompts = passes.data.pairs["prompt_id"]
    dropped = []
    for place in range(4 * NUM_STEPS):
        batch = passes._batch(range(place, place + 1))
        own = texts.of(prompts[passes.plan.visits[place].pair_id])
        for name, told_2L in batch.text.items():
            empty = texts.of(EMPTY)[name]
            is_empty = torch.equal(told_2L[0], empty)
            assert torch.equal(told_2L[0], told_2L[1])
            assert is_empty or torch.equal(told_2L[0], own[name])
            assert torch.equal(passes._batch(range(place, place + 1)).text[name], told_2L)
            dropped.append(is_empty)
    # 200 draws: 0.3 is met within three standard deviations of 0.032.
    assert np.mean(dropped) == pytest.approx(0.3, abs=0.1)


def test_caption_dropout_trains_from_ln_2_on(trainings):
    settings = {"reference": "online", "learning_rate": 3e-3}
    plain, _ = trainings.trained(**settings)
    log, _ = trainings.trained(**settings, caption_dropout=0.5)
    assert log["loss"][0] == pytest.approx(log["weight_mean"][0] * math.log(2), abs=1e-5)
    assert not np.allclose(log["error_winner"], plain["error_winner"], rtol=0, atol=1e-7)
    assert log["margin"].tail(10).mean() > log["margin"].head(5).mean() + 0.05


def test_a_lora_trains_the_layers_that_are_named_and_no_others(trainings):
    targets = ["to_q", "attn1.to_out.0"]
    log, adapter = trainings.trained(lora={"rank": 4, "target_modules": targets}, learning_rate=3e-3)
    layers = {name.split(".lora_")[0] for name in adapter}
    blocks = {f"transformer.blocks.{block}" for block in range(2)}
    expected = {f"{block}.{attention}.to_q" for block in blocks for attention in ("attn1", "attn2")}
    assert layers == expected | {f"{block}.attn1.to_out.0" for block in blocks}
    assert all(value.any() for value in adapter.values())  # B starts at 0
    assert log["loss"][0] == pytest.approx(log["weight_mean"][0] * math.log(2), abs=1e-5)
    assert log["margin"].tail(10).mean() > log["margin"].head(5).mean()


def test_layers_that_the_network_has_not_are_refused_by_name(trainings):
    run = trainings.fresh(lora={"rank": 4, "target_modules": ["to_q", "to_query"]})
    with pytest.raises(
        ValueError, match=r"train\.lora\.target_modules: to_query: no such layer in Wan.* null takes to_q, "
    ):
        run.train()


@pytest.fixture(scope="module")
def of_a_unet(tmp_path_factory):
    """Trainings of a U-Net, which has dropout of its own."""
    made = OfFamily("text_to_video_sd", tmp_path_factory.mktemp("unet"))
    made.variant().until_pairs()
    return made


def test_network_dropout_falls_on_policy_and_reference_each_by_itself(of_a_unet):
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
