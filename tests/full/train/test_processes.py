"""Several processes on models that are not one transformer, and on every weight: they train like one."""

import subprocess

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.support.trainings import OfFamily, by_command, command, log_of
from videodpo.config import TrainRuntime
from videodpo.stages.train.launch import launch_command, launch_environment


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
def test_two_processes_train_like_one(tmp_path, name, train_runtime, train):
    trainings = OfFamily(name, tmp_path)
    run = trainings.variant()
    run.until_pairs()
    run.reference()
    one = trainings.fresh(**train)
    one.train()
    expected, weights = log_of(one), saved(one)
    two = trainings.fresh(train_runtime={"processes": 2, **train_runtime}, **train)
    log = by_command(two)
    np.testing.assert_allclose(log["loss"], expected["loss"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(log["grad_norm"], expected["grad_norm"], rtol=1e-3)
    found = saved(two)
    assert found.keys() == weights.keys()
    for key, value in found.items():
        np.testing.assert_allclose(value, weights[key], rtol=0, atol=1e-3)


class Rounded(OfFamily):
    """In bfloat16, as the presets have it; weights in float32 where they say so."""

    def variant(self, mixed_precision=False, **changes):
        run = super().variant(**changes)
        model = run.config.model.model_copy(update={"dtype": "bfloat16", "mixed_precision": mixed_precision})
        run.config = run.config.model_copy(update={"model": model})
        return run


@pytest.mark.parametrize(
    ("train_runtime", "changes"),
    [
        ({}, {}),
        ({"gradient_checkpointing": "full"}, {"reference": "online"}),
        ({"gradient_checkpointing": "full", "compile": True}, {}),
        ({"processes": 2, "strategy": "fsdp"}, {}),
        ({"processes": 2, "strategy": "fsdp"}, {"optimizer": "adamw_8bit", "lora": {"rank": 64}}),
        ({}, {"method": "full", "mixed_precision": True, "reference": "online"}),
        ({"processes": 2, "strategy": "fsdp"}, {"method": "full", "mixed_precision": True}),
    ],
    ids=[
        "precomputed",
        "online",
        "compiled",
        "sharded",
        "sharded, moments in 8 bits",
        "every weight in float32, live",
        "the same, sharded",
    ],
)
def test_bfloat16_trains(tmp_path, train_runtime, changes):
    """Errors are of the size of 1 and beta is 100: rounding alone moves a loss by some hundredths."""
    trainings = Rounded("wan-2.1", tmp_path)
    run = trainings.variant(**changes)
    run.until_pairs()
    run.reference()
    log = by_command(trainings.fresh(train_runtime=train_runtime, **changes))
    np.testing.assert_allclose(log["loss"][0], log["weight_mean"][0] * np.log(2), rtol=0.05)
    assert not log["skipped"].any()
    assert (log["loss"] / log["weight_mean"]).iloc[-2:].mean() < np.log(2)


def saved(run):
    files = sorted((run.round_folder / "adapter").rglob("*.safetensors"))
    return {f"{file.name}/{name}": value for file in files for name, value in load_file(file).items()}


def test_sharded_experts_are_refused(tmp_path):
    trainings = OfFamily("wan-2.2-a14b", tmp_path)
    run = trainings.variant(train_runtime={"processes": 2, "strategy": "fsdp"})
    run.until_pairs()
    run.reference()
    answer = subprocess.run(command(run), capture_output=True, text=True, check=False)
    assert answer.returncode != 0
    assert "train_runtime.strategy: fsdp, but processes would wait" in answer.stderr


def test_one_process_needs_no_launcher_and_a_started_one_starts_no_other():
    assert launch_command(TrainRuntime(), ["train"], {}) is None
    assert launch_command(TrainRuntime(processes=8), ["train"], {"TORCHELASTIC_RUN_ID": "1"}) is None
    command = launch_command(TrainRuntime(processes=8), ["train", "--round", "2"], {})
    assert command[1:3] == ["-m", "torch.distributed.run"]
    assert command[-5:] == ["-m", "videodpo", "train", "--round", "2"]
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
    with pytest.raises(ValueError, match=r"trainer\.nodes: 2, but this is no SLURM job"):
        launch_command(train_runtime, ["train"], {})
