"""Several processes train like one, also on other networks than one transformer, and in full fine-tuning."""

import functools
import subprocess

import numpy as np
import pytest

from tests.support.trainings import OfFamily, adapter_of, command, log_of


@pytest.fixture(scope="module")
def of_family(tmp_path_factory):
    """Function that returns trainings of a family, which share one round per family."""

    @functools.cache
    def made(name, kind=OfFamily, **changes):
        trainings = kind(name, tmp_path_factory.mktemp("family"))
        run = trainings.variant(**changes)
        run.until_pairs()
        run.reference()
        return trainings

    return made


@pytest.mark.parametrize(
    ("name", "train_runtime", "train"),
    [
        ("wan-2.2-a14b", {"strategy": "ddp"}, {}),
        ("hunyuan_video15", {"strategy": "fsdp"}, {}),
        ("text_to_video_sd", {"strategy": "fsdp"}, {}),
        ("ltx_video", {"strategy": "fsdp"}, {}),
        ("wan-2.2-a14b", {"context_parallel": 2}, {}),
        ("wan-2.1", {"strategy": "fsdp", "compile": True, "gradient_checkpointing": "full"}, {}),
        ("wan-2.1", {"strategy": "fsdp"}, {"method": "full", "learning_rate": 1e-4}),
    ],
    ids=[
        "two experts",
        "unused weights",
        "a U-Net",
        "layers by another name",
        "experts' tokens shared",
        "compiled",
        "every weight",
    ],
)
def test_two_processes_train_like_one(of_family, server, name, train_runtime, train):
    trainings = of_family(name)
    expected, weights = trainings.trained(**train)
    two = trainings.fresh(train_runtime={"processes": 2, **train_runtime}, **train)
    server.finish(two)
    log = log_of(two)
    np.testing.assert_allclose(log["loss"], expected["loss"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(log["grad_norm"], expected["grad_norm"], rtol=1e-3)
    found = adapter_of(two)
    assert found.keys() == weights.keys()
    for key, value in found.items():
        np.testing.assert_allclose(value, weights[key], rtol=0, atol=1e-3)


class Rounded(OfFamily):
    """Trainings in bfloat16 as in the presets, with float32 weights if `mixed_precision`."""

    def variant(self, mixed_precision=False, **changes):
        run = super().variant(**changes)
        model = run.config.model.model_copy(update={"dtype": "bfloat16", "mixed_precision": mixed_precision})
        run.config = run.config.model_copy(update={"model": model})
        return run


@pytest.mark.parametrize(
    ("train_runtime", "changes"),
    [
        ({}, {}),
        ({"gradient_checkpointing": "full", "compile": True}, {"reference": "online"}),
        ({"processes": 2, "strategy": "fsdp"}, {"optimizer": "adamw_8bit", "lora": {"rank": 64}}),
        ({"processes": 2, "strategy": "fsdp"}, {"method": "full", "mixed_precision": True}),
    ],
    ids=["plain", "compiled, reference online", "sharded, moments in 8 bits", "every weight in float32, sharded"],
)
def test_bfloat16_trains(of_family, server, train_runtime, changes):
    """Errors are about 1 and beta is 100, so rounding alone changes a loss by some hundredths."""
    trainings = of_family("wan-2.1", Rounded, mixed_precision=changes.get("mixed_precision", False))
    run = trainings.fresh(train_runtime=train_runtime, **changes)
    server.finish(run)
    log = log_of(run)
    np.testing.assert_allclose(log["loss"][0], log["weight_mean"][0] * np.log(2), rtol=0.05)
    assert not log["skipped"].any()
    assert (log["loss"] / log["weight_mean"]).iloc[-2:].mean() < np.log(2)


def test_sharded_experts_are_refused(of_family):
    run = of_family("wan-2.2-a14b").variant(train_runtime={"processes": 2, "strategy": "fsdp"})
    answer = subprocess.run(command(run), capture_output=True, text=True, check=False)
    assert answer.returncode != 0
    assert "train_runtime.strategy: fsdp, but ranks that run different experts" in answer.stderr
