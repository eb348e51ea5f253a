"""Training states on disk: what is kept, and what a training finds of it."""

import pytest
import torch

from videodpo.dpo.checkpoints import load_checkpoint, save_checkpoint

MINE, OTHERS = "a" * 64, "b" * 64


@pytest.fixture
def training():
    """A parameter with an optimiser that has taken a step."""
    weights = {"w": torch.nn.Parameter(torch.tensor([1.0, 2.0]))}
    optimizer = torch.optim.AdamW(weights.values(), lr=0.1)
    weights["w"].grad = torch.tensor([1.0, -1.0])
    optimizer.step()
    return weights, optimizer


def test_the_newest_state_comes_back_with_weights_optimiser_and_log(tmp_path, training):
    weights, optimizer = training
    for step in (10, 20):
        with torch.no_grad():
            weights["w"].fill_(float(step))
        save_checkpoint(tmp_path, step, MINE, weights, optimizer, [{"step": step}])
    fresh = {"w": torch.nn.Parameter(torch.zeros(2))}
    other = torch.optim.AdamW(fresh.values(), lr=0.1)
    assert load_checkpoint(tmp_path, MINE, fresh, other) == (20, [{"step": 20}])
    assert fresh["w"].tolist() == [20.0, 20.0]
    assert torch.equal(other.state[fresh["w"]]["exp_avg"], optimizer.state[weights["w"]]["exp_avg"])


def test_two_states_are_kept(tmp_path, training):
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, step, MINE, *training, [])
    assert sorted(path.name for path in tmp_path.glob("*/*")) == ["step-00000003", "step-00000004"]


def test_a_training_with_other_settings_keeps_its_own_states_whatever_was_there(tmp_path, training):
    save_checkpoint(tmp_path, 3000, OTHERS, *training, [])
    assert load_checkpoint(tmp_path, MINE, *training) == (0, [])
    save_checkpoint(tmp_path, 100, MINE, *training, [])
    assert load_checkpoint(tmp_path, MINE, *training)[0] == 100
    assert load_checkpoint(tmp_path, OTHERS, *training)[0] == 0


def test_a_state_that_was_being_written_is_not_found(tmp_path, training):
    save_checkpoint(tmp_path, 1, MINE, *training, [])
    (state,) = tmp_path.glob("*/step-*")
    state.rename(state.with_name(".step-00000002.partial"))
    assert load_checkpoint(tmp_path, MINE, *training) == (0, [])
