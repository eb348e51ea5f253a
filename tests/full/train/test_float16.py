"""Training with float16 products: gradients of the preset's size reach the weights, and overflows are skipped."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from tests.support.trainings import OfFamily, adapter_of, log_of
from videodpo.dpo.policy import trainable
from videodpo.dpo.trainer import Training

# The gradient of a pair's loss with respect to one element of the prediction is beta / 2 times the residual, over
# the elements and pairs per step: 16 x 13 x 60 x 90 and 8 in presets/cogvideox-2b.yaml, 4 x 3 x 4 x 8 and 4 here.
OF_THE_PRESET = (4 * 3 * 4 * 8 * 4) / (16 * 13 * 60 * 90 * 8)


@pytest.fixture(scope="module")
def cogvideox(tmp_path_factory: pytest.TempPathFactory) -> OfFamily:
    """A small CogVideoX 2B with random weights, and pairs."""
    trainings = OfFamily("cogvideox-2b", tmp_path_factory.mktemp("cogvideox"))
    trainings.variant().until_pairs()
    return trainings


def at_dtype(trainings: OfFamily, dtype: str, *, mixed_precision: bool = False, **changes: Any) -> Any:
    run = trainings.fresh(reference="online", **changes)
    update = {"dtype": dtype, "mixed_precision": mixed_precision}
    run.config = run.config.model_copy(update={"model": run.config.model.model_copy(update=update)})
    return run


def first_gradients(run: Any) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Direction of the first step's gradients by name, from AdamW's first moments; and the step's row of the log."""
    training = Training(run.snapshot("train"), run.round_folder, None, Accelerator(cpu=True))
    row = training._step(0, [])
    weights = trainable(training.model)
    return {name: training.optimizer.state[weight]["exp_avg"] for name, weight in weights.items()}, row


def cosine(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], part: str) -> float:
    flat = [torch.cat([grads[name].flatten() for name in sorted(grads) if part in name]) for grads in (one, other)]
    return float(torch.nn.functional.cosine_similarity(*flat, dim=0, eps=0.0))


@pytest.mark.parametrize("beta", [1000.0, 100.0, 10.0])
@pytest.mark.parametrize("mixed_precision", [False, True], ids=["pure", "mixed"])
def test_gradients_of_the_presets_size_are_those_of_float32(
    cogvideox: OfFamily, beta: float, mixed_precision: bool, figures: Any
) -> None:
    exact, row = first_gradients(at_dtype(cogvideox, "float32", beta=beta * OF_THE_PRESET))
    assert row["loss_scale"] is None
    half = at_dtype(cogvideox, "float16", mixed_precision=mixed_precision, beta=beta * OF_THE_PRESET)
    rounded, row = first_gradients(half)
    assert row["loss_scale"] == 2.0**16
    assert not row["skipped"]
    found = {part: cosine(exact, rounded, part) for part in ("to_q", "to_k", "to_v", "to_out", "ff.net")}
    figures(f"float16 gradients, beta {beta:g}, mixed {mixed_precision}", found)
    assert min(found.values()) > 0.99


# Beta is so large that the first scaled gradients exceed 65504, float16's maximum.
OVERFLOWS: dict[str, Any] = {"beta": 1e6, "max_skipped_steps": 0, "learning_rate": 1e-5}


def test_an_overflow_is_skipped_and_lowers_the_scale(cogvideox: OfFamily) -> None:
    run = at_dtype(cogvideox, "float16", **OVERFLOWS, schedule={"num_steps": 16})
    run.train()
    log = log_of(run)
    assert log["skipped"].iloc[0]
    assert not log["skipped"].all()
    np.testing.assert_array_equal(log["loss_scale"], 2.0 ** (16 - log["skipped"].cumsum().shift(fill_value=0)))
    assert log["grad_norm"].isna().tolist() == log["skipped"].tolist()


def test_a_resumed_training_has_the_same_scale_and_bytes(cogvideox: OfFamily) -> None:
    run = at_dtype(cogvideox, "float16", **OVERFLOWS, schedule={"num_steps": 16}, train_runtime={"checkpoint_steps": 8})
    run.train()
    log, adapter = log_of(run), adapter_of(run)
    (newest,) = run.round_folder.glob("state/*/step-00000016")
    shutil.rmtree(newest)
    run.train()
    columns = ["loss", "loss_scale", "grad_norm", "skipped"]
    assert log_of(run)[columns].equals(log[columns])
    again = adapter_of(run)
    assert all(torch.equal(again[name], value) for name, value in adapter.items())
