"""The command that starts the processes of a fine-tune."""

import subprocess
import sys

import pytest

from tests.support.trainings import command
from videodpo.config import TrainRuntime
from videodpo.runtime.locks import exclusive
from videodpo.stages.train.launch import drop_foreign_variables, launch_command, launch_environment

OTHERS = [
    "ACCELERATE_MIXED_PRECISION",
    "ACCELERATE_USE_FSDP",
    "FSDP_VERSION",
    "FSDP_CPU_RAM_EFFICIENT_LOADING",
    "PET_NNODES",
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "PMIX_RANK",
    "MV2_COMM_WORLD_SIZE",
    "MPI_LOCALRANKID",
    "NODE_RANK",
    "FORK_LAUNCHED",
]
LAUNCHERS = [
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "ROLE_RANK",
    "ROLE_NAME",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
]
KEPT = ["PATH", "CUDA_VISIBLE_DEVICES", "NCCL_SOCKET_IFNAME", "SLURM_JOB_ID", "OMP_NUM_THREADS", "HF_HOME"]


@pytest.mark.parametrize("launched", [False, True])
def test_only_variables_of_our_own_launcher_are_kept(launched):
    environment = dict.fromkeys(OTHERS + LAUNCHERS + KEPT, "1")
    drop_foreign_variables(environment, launched=launched)
    assert list(environment) == (LAUNCHERS if launched else []) + KEPT


def test_a_second_training_is_refused_before_it_imports_torch(trainings):
    """A new driver finds the lock of a left-over training within a second."""
    run = trainings.fresh()
    program = "import sys; from videodpo.cli import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    with exclusive(run.folder, run.round_folder / "adapter"):
        words = [sys.executable, "-c", program, *command(run)[3:]]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ended.stdout == "1 False\n", ended.stderr
    assert "is held by pid" in ended.stderr


def test_one_process_needs_no_launcher():
    assert launch_command(TrainRuntime(), ["train"], {}) is None
    command = launch_command(TrainRuntime(processes=8), ["train", "--round", "2"], {})
    assert command[1:3] == ["-m", "videodpo.stages.train.launcher"]
    assert command[-6:] == ["-m", "videodpo", "train", "--round", "2", "--launched"]
    assert {"--nproc-per-node=8", "--standalone"} <= set(command)


def test_several_nodes_are_started_by_srun_and_connect_to_the_first_node_of_the_step(tmp_path, monkeypatch):
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
    assert command[1:3] == ["-m", "videodpo.stages.train.launcher"]
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-endpoint=10.0.0.07:32345", "--local-addr=10.0.0.08"} <= set(
        command
    )
    assert launch_environment(train_runtime, inside)["OMP_NUM_THREADS"] == "2"
    with pytest.raises(ValueError, match=r"train_runtime\.nodes: 2, but this is not a SLURM job"):
        launch_command(train_runtime, ["train"], {})
