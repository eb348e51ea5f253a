"""Training states on disk: which are kept, and which a training resumes from."""

import pytest
import torch

from videodpo.config.errors import InputError
from videodpo.dpo.checkpoints import Checkpoints
from videodpo.dpo.optimizers import start_moments

MINE, OTHERS = "a" * 64, "b" * 64


@pytest.fixture
def training():
    """A network with one frozen layer, and an optimizer that has taken one step."""
    return _training(torch.optim.AdamW)


def _training(kind):
    network = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Linear(64, 64))
    network[0].requires_grad_(False)
    optimizer = kind(network[1].parameters(), lr=0.1)
    network(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return network, optimizer


def _adamw_8bit():
    from torchao.optim import AdamW8bit

    return AdamW8bit


@pytest.mark.parametrize("kind", [lambda: torch.optim.AdamW, _adamw_8bit], ids=["adamw", "adamw_8bit"])
def test_the_newest_state_is_restored_with_weights_optimiser_and_log(tmp_path, kind):
    network, optimizer = _training(kind())
    for step in (10, 20):
        with torch.no_grad():
            network[1].weight.fill_(float(step))
        Checkpoints(tmp_path, MINE, network, optimizer).save(step, [{"step": step}])
    fresh, other = _training(kind())
    snapshot = fresh[0].weight.clone()
    assert Checkpoints(tmp_path, MINE, fresh, other).load() == (20, [{"step": 20}])
    assert (fresh[1].weight == 20).all()
    assert torch.equal(fresh[0].weight, snapshot)
    moments = [dict(zip("wb", one.state.values(), strict=True))["w"] for one in (optimizer, other)]
    for name, value in moments[0].items():
        torch.testing.assert_close(_plain(moments[1][name]), _plain(value), rtol=0, atol=0)


def _plain(value):
    return value.dequantize() if hasattr(value, "codes") else value


def test_two_states_are_kept(tmp_path, training):
    for step in (1, 2, 3, 4):
        Checkpoints(tmp_path, MINE, *training).save(step, [])
    assert sorted(path.name for path in tmp_path.glob("*/step-*")) == ["step-00000003", "step-00000004"]


def test_a_training_with_other_settings_ignores_existing_states_and_keeps_its_own(tmp_path, training):
    Checkpoints(tmp_path, OTHERS, *training).save(3000, [])
    assert Checkpoints(tmp_path, MINE, *training).load() == (0, [])
    Checkpoints(tmp_path, MINE, *training).save(100, [])
    assert Checkpoints(tmp_path, MINE, *training).load()[0] == 100
    assert Checkpoints(tmp_path, OTHERS, *training).load()[0] == 0


def test_a_partly_written_state_is_ignored(tmp_path, training):
    Checkpoints(tmp_path, MINE, *training).save(1, [])
    (state,) = tmp_path.glob("*/step-*")
    state.rename(state.with_name(".step-00000002.partial"))
    assert Checkpoints(tmp_path, MINE, *training).load() == (0, [])


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp"])
def test_an_unreadable_state_is_named_with_what_to_do(tmp_path, training, name):
    Checkpoints(tmp_path, MINE, *training).save(1, [])
    (state,) = tmp_path.glob("*/step-*")
    (state / name).write_bytes((state / name).read_bytes()[:-20])
    with pytest.raises(InputError, match=r"step-00000001.*remove it"):
        Checkpoints(tmp_path, MINE, *training).load()


def test_a_weight_that_never_had_a_gradient_has_moments_in_the_state(tmp_path):
    """For example an expert that no pass has used yet."""

    def start():
        network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
        start_moments(optimizer)
        return network, optimizer

    def step(network, optimizer, part):
        part(torch.ones(1, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    network, optimizer = start()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    plain = torch.optim.AdamW(network.parameters(), lr=0.1, fused=True)
    assert optimizer.param_groups[0]["lr"] == 0.1
    step(network, optimizer, network[0])
    Checkpoints(tmp_path, MINE, network, optimizer).save(1, [])
    other, resumed = start()
    assert Checkpoints(tmp_path, MINE, other, resumed).load() == (1, [])
    for each in ((network, optimizer), (other, resumed)):
        step(*each, torch.nn.Sequential(*each[0]))
    for name, value in network.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(before)
    step(network, plain, network[0])
    step(network, plain, network)
    for name, value in network.state_dict().items():
        assert torch.equal(value, expected[name])
