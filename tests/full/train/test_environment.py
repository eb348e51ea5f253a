"""Only the configuration decides how a training runs, not a surrounding launcher or environment."""

import json
import os
import subprocess

import pytest
import torch

from tests.support.trainings import adapter_of, command, log_of

FOREIGN = {
    "another process group": {
        **{"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0"},
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511", "TORCHELASTIC_RUN_ID": "outer"},
    },
    "MPI": {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "PMI_SIZE": "2", "PMI_RANK": "1"},
    "options of launchers": {
        **{"PET_NNODES": "2", "PET_NPROC_PER_NODE": "3", "ACCELERATE_MIXED_PRECISION": "bf16"},
        **{"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR", "ACCELERATE_USE_FSDP": "true", "ACCELERATE_USE_DEEPSPEED": "true"},
    },
}


def _trained(run, environment):
    subprocess.run(command(run), check=True, capture_output=True, env=os.environ | environment, timeout=300)
    return adapter_of(run)


@pytest.mark.parametrize("processes", [1, 2])
def test_variables_of_other_launchers_do_not_change_the_adapter(trainings, processes):
    settings = {"train_runtime": {"processes": processes}}
    expected = _trained(trainings.fresh(**settings), {})
    everything = {name: value for variables in FOREIGN.values() for name, value in variables.items()}
    for variables in [everything] if processes == 2 else FOREIGN.values():
        found = _trained(trainings.fresh(**settings), variables)
        for name, value in expected.items():
            assert torch.equal(found[name], value), (name, sorted(variables))


def test_several_processes_train_from_the_given_file(trainings, tmp_path):
    run = trainings.fresh(train_runtime={"processes": 2})
    words = command(run)
    own = run.folder / "config" / "train.json"
    other = json.loads(own.read_text())
    other["settings"]["train"]["learning_rate"] = 0.5
    path = own.with_name("other.json")
    path.write_text(json.dumps(other))
    subprocess.run([*words[:-1], str(path)], check=True, capture_output=True, timeout=300)
    assert log_of(run)["lr"].iloc[-1] > 10 * run.config.train.learning_rate
