"""50 steps of equivalent trainings against one recorded run."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support.trainings import log_of

RECORDED = Path(__file__).with_name("trajectory.json")
SCHEDULE = {"global_batch_size": 8, "micro_batch_size": 1}
VARIANTS = {
    "accumulation 8 x 1": {},
    "accumulation 1 x 8": {"schedule": {"micro_batch_size": 8}},
    "full checkpointing": {"train_runtime": {"gradient_checkpointing": "full"}},
    "selective checkpointing": {"train_runtime": {"gradient_checkpointing": "selective"}},
    "live reference": {"reference": "online"},
    "fresh texts": {"texts": "online"},
    "data parallel": {"train_runtime": {"processes": 2}},
    "tokens and weights shared": {"train_runtime": {"processes": 2, "context_parallel": 2, "strategy": "fsdp"}},
    "tokens shared, live reference, recomputed": {
        "reference": "online",
        "train_runtime": {"processes": 2, "context_parallel": 2, "gradient_checkpointing": "full"},
    },
    "weights sharded, recomputed": {
        "train_runtime": {"processes": 2, "strategy": "fsdp", "gradient_checkpointing": "selective"}
    },
    "offloaded optimiser": {"train_runtime": {"strategy": "fsdp", "offload_optimizer": True}},
}


@pytest.fixture(scope="module")
def on_eight_pairs(trainings, tmp_path_factory):
    found = trainings.copy(tmp_path_factory.mktemp("trajectories"))
    found.variant(schedule=SCHEDULE).reference()
    return found


@pytest.mark.parametrize("name", VARIANTS)
def test_trajectory_equals_the_recorded_one(on_eight_pairs, server, name):
    changes = dict(VARIANTS[name])
    changes["schedule"] = SCHEDULE | changes.get("schedule", {})
    run = on_eight_pairs.fresh(**changes)
    server.finish(run)
    log = log_of(run)
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    np.testing.assert_allclose(log["loss"], recorded["loss"], rtol=0, atol=1e-5)
    residual = (log["error_winner"] + log["error_loser"]) / 2
    expected = (np.array(recorded["error_winner"]) + recorded["error_loser"]) / 2
    np.testing.assert_allclose(residual, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(log["grad_norm"], recorded["grad_norm"], rtol=2e-3)
