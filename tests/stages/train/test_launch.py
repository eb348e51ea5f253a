"""The command that starts the processes of a fine-tune."""

import pytest

from videodpo.config import TrainRuntime
from videodpo.stages.train.launch import launch_command, launch_environment


def test_one_process_needs_no_launcher():
    assert launch_command(TrainRuntime(), ["train"], {}) is None
    command = launch_command(TrainRuntime(processes=8), ["train", "--round", "2"], {})
    assert command[1:3] == ["-m", "torch.distributed.run"]
    assert command[-6:] == ["-m", "videodpo", "train", "--round", "2", "--launched"]
    assert {"--nproc-per-node=8", "--standalone"} <= set(command)


def test_several_nodes_are_reached_by_srun_and_meet_at_the_first_of_its_step(tmp_path, monkeypatch):
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(
        "#!/bin/sh\n"
        'if [ "$2" = hostnames ]; then printf "node07\\nnode08\\n"; else echo "NodeAddr=10.0.0.${4#node}"; fi\n'
    )
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    train_runtime = TrainRuntime(processes=4, nodes=2)
    outside = {"SLURM_JOB_ID": "12345", "OMP_NUM_THREADS": "8"}
    command = launch_command(train_runtime, ["train"], outside)
    assert command[0] == "srun"
    assert {"--nodes=2", "--ntasks=2", "--ntasks-per-node=1"} <= set(command)
    assert command[-3:] == ["-m", "videodpo", "train"]
    assert launch_environment(train_runtime, outside) == outside
    inside = outside | {"SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "node[07-08]", "SLURM_NODEID": "1"}
    command = launch_command(train_runtime, ["train"], inside)
    assert command[1:3] == ["-m", "torch.distributed.run"]
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-endpoint=10.0.0.07:32345", "--local-addr=10.0.0.08"} <= set(
        command
    )
    assert launch_environment(train_runtime, inside)["OMP_NUM_THREADS"] == "2"
    with pytest.raises(ValueError, match=r"train_runtime\.nodes: 2, but this is no SLURM job"):
        launch_command(train_runtime, ["train"], {})
