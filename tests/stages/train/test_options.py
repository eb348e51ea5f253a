"""Options that change what is trained, tested with the real trainer."""

import math

import numpy as np
import pytest
import torch

from tests.support.trainings import NUM_STEPS
from videodpo.dpo.passes import Passes
from videodpo.dpo.policy import build_policy
from videodpo.models.shared.prompt_embeds import EMPTY, CachedTexts


def test_captions_are_replaced_by_the_empty_one_with_the_configured_probability(trainings):
    """The same for policy and reference, for winner and loser, and when visits are repeated."""
    run = trainings.fresh(reference="online", caption_dropout=0.3)
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
    # 200 draws: the share is within three standard deviations, of 0.032 each, of 0.3.
    assert np.mean(dropped) == pytest.approx(0.3, abs=0.1)


def test_a_lora_trains_exactly_the_named_layers(trainings):
    targets = ["to_q", "attn1.to_out.0"]
    log, adapter = trainings.trained(lora={"rank": 4, "target_modules": targets}, learning_rate=3e-3)
    layers = {name.partition("/")[2].split(".lora_")[0] for name in adapter}
    blocks = {f"transformer.blocks.{block}" for block in range(2)}
    expected = {f"{block}.{attention}.to_q" for block in blocks for attention in ("attn1", "attn2")}
    assert layers == expected | {f"{block}.attn1.to_out.0" for block in blocks}
    assert all(value.any() for value in adapter.values())  # B starts at 0
    assert log["loss"][0] == pytest.approx(log["weight_mean"][0] * math.log(2), abs=1e-5)
    assert log["margin"].tail(10).mean() > log["margin"].head(5).mean()


def test_unknown_layers_are_refused_by_name(trainings):
    run = trainings.fresh(lora={"rank": 4, "target_modules": ["to_q", "to_query"]})
    with pytest.raises(
        ValueError, match=r"train\.lora\.target_modules: to_query: no such layer in Wan.* null takes to_q, "
    ):
        run.train()
