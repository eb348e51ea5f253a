"""A training that is killed or stopped by a signal ends with the same result as an undisturbed one."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.trainings import NUM_STEPS, adapter_of, command, last_step, log_of
from videodpo.runtime.locks import exclusive

DROPOUT = {"rank": 4, "dropout": 0.1}


def _finish(server, run):
    """Train to the end; return the tensors and the log."""
    server.finish(run)
    return adapter_of(run), log_of(run)


def _kill_at_random(server, run, draws, most_seconds):
    """Start, and kill all processes at a random point of a step or write after the first new state."""
    before = last_step(run)
    started = server.start(run)
    while all(process.is_alive() for process in started) and last_step(run) <= before:
        time.sleep(0.005)
    time.sleep(draws.uniform(0, most_seconds))
    assert all(process.is_alive() for process in started), "it ended before the last kill"
    for process in started:
        process.kill()
    for process in started:
        process.join()
    return last_step(run)


@pytest.mark.parametrize(
    ("train", "processes"),
    [({"lora": DROPOUT}, 1), ({"method": "full", "learning_rate": 1e-4}, 1), ({"lora": DROPOUT}, 2)],
    ids=["a LoRA", "every weight", "two processes"],
)
def test_kills_at_random_points_change_no_bit(trainings, server, fault_tries, train, processes):
    settings = train | {"train_runtime": {"checkpoint_steps": 1, "processes": processes}}
    expected, expected_log = _finish(server, trainings.fresh(**settings))
    run = trainings.fresh(**settings)
    draws = random.Random(0)
    steps = [_kill_at_random(server, run, draws, most_seconds=0.3) for _ in range(min(fault_tries, 10))]
    assert steps == sorted(set(steps))
    assert steps[-1] < NUM_STEPS
    found, log = _finish(server, run)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert torch.equal(value, expected[name]), name
    assert log["step"].tolist() == list(range(NUM_STEPS))
    np.testing.assert_array_equal(log["loss"], expected_log["loss"])


def _signalled(run, *signals):
    """Start the command and send signals during the training, the second one as soon as the first is acknowledged.

    Returns:
        The exit code and the log.
    """
    process = subprocess.Popen(command(run), stderr=subprocess.PIPE, text=True)
    output = ""
    for line in process.stderr:
        output += line
        if "training from step" in line:
            time.sleep(0.5)
            process.send_signal(signals[0])
        if "Ctrl-C: the state is saved" in line and len(signals) > 1:
            process.send_signal(signals[1])
    return process.wait(), output


def test_a_signal_saves_the_state_and_exits_with_75(trainings):
    settings = {"lora": DROPOUT, "train_runtime": {"checkpoint_steps": None}}
    _, expected = trainings.trained(**settings)
    run = trainings.fresh(**settings)
    code, output = _signalled(run, signal.SIGTERM)
    assert code == 75, output
    assert "SIGTERM after step" in output
    assert 0 < last_step(run) < NUM_STEPS
    assert not (run.round_folder / "adapter").exists()
    run.train()
    for name, value in adapter_of(run).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)  # threads differ


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_to_the_launcher_saves_the_state_of_every_process(trainings, number):
    run = trainings.fresh(train_runtime={"processes": 2, "checkpoint_steps": None})
    code, output = _signalled(run, number)
    assert code == 75, output
    assert f"{number.name} after step" in output, output
    assert "Traceback" not in output
    assert 0 < last_step(run) < NUM_STEPS


@pytest.mark.parametrize("processes", [1, 2])
def test_a_second_ctrl_c_kills_every_process(trainings, processes):
    settings = {"num_steps": 4, "global_batch_size": 512}  # a step would take longer than the test
    runtime = {"processes": processes, "checkpoint_steps": None}
    run = trainings.fresh(reference="online", train_runtime=runtime, schedule=settings)
    code, output = _signalled(run, signal.SIGINT, signal.SIGINT)
    assert code == -signal.SIGINT, output
    assert "Traceback" not in output
    assert last_step(run) == -1
    with exclusive(run.folder, run.round_folder / "adapter"):  # no process holds the lock any more
        pass


def test_several_processes_end_with_the_exit_code_of_the_one_that_failed(trainings):
    run = trainings.fresh(train_runtime={"processes": 2})
    (run.round_folder / "visits.parquet").unlink()
    ended = subprocess.run(command(run), capture_output=True, text=True, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "visits.parquet" in ended.stderr
    assert "Traceback" not in ended.stderr


def _kill_all_after(run, step):
    """Start the command, and kill the launcher and its workers once that step's state exists."""
    process = subprocess.Popen(command(run), stderr=subprocess.DEVNULL)
    while process.poll() is None and last_step(run) < step:
        time.sleep(0.02)
    assert process.poll() is None
    path = str(run.folder / "config" / "train.json").encode()
    killed = [int(entry.parent.name) for entry in Path("/proc").glob("[0-9]*/cmdline") if path in _text(entry)]
    assert len(killed) == 1 + run.config.train_runtime.processes
    for number in killed:
        os.kill(number, signal.SIGKILL)
    process.wait()
    while True:  # wait until the killed processes have closed their files
        try:
            with exclusive(run.folder, run.round_folder / "adapter"):
                return
        except RuntimeError:
            time.sleep(0.02)


def _text(path):
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def test_a_sharded_training_is_resumed_by_one_process(trainings):
    settings = {"lora": DROPOUT, "train_runtime": {"checkpoint_steps": 5}}
    expected_log, _ = trainings.trained(**settings)
    two = {"processes": 2, "checkpoint_steps": 5, "strategy": "fsdp"}
    run = trainings.fresh(lora=DROPOUT, train_runtime=two)
    _kill_all_after(run, 10)
    state = last_step(run)
    rest = trainings.variant(**settings)
    rest.train()
    assert 10 <= state < NUM_STEPS
    log = log_of(rest)
    assert log["step"].tolist() == list(range(NUM_STEPS))
    np.testing.assert_allclose(log["loss"], expected_log["loss"], rtol=0, atol=1e-5)


def test_1_2_and_4_processes_in_turn_end_like_one(own_trainings, figures):
    settings = {"lora": DROPOUT, "schedule": {"global_batch_size": 4, "micro_batch_size": 1}}
    own_trainings.variant(**settings).reference()
    one = own_trainings.fresh(**settings, train_runtime={"checkpoint_steps": 5})
    subprocess.run(command(one), check=True, capture_output=True)
    expected, expected_log = adapter_of(one), log_of(one)
    run = own_trainings.fresh(**settings)
    for processes, step in ((2, 10), (4, 25)):
        run = own_trainings.variant(**settings, train_runtime={"processes": processes, "checkpoint_steps": 5})
        _kill_all_after(run, step)
        assert step <= last_step(run) < NUM_STEPS
    subprocess.run(command(own_trainings.variant(**settings)), check=True, capture_output=True)
    # The same pairs, draws and noise at every step.
    log = log_of(run)
    np.testing.assert_allclose(log["ref_error_winner"], expected_log["ref_error_winner"], rtol=1e-6)
    np.testing.assert_allclose(log["loss"], expected_log["loss"], rtol=0, atol=1e-5)
    apart = [float((value - expected[name]).norm() / value.norm()) for name, value in adapter_of(run).items()]
    figures("2, 4 and 1 processes in turn", {"weights apart, relative": max(apart)})
    assert max(apart) < 1e-5
