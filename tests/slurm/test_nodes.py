"""The fine-tune on two nodes or two GPUs per node: the same training as in one process, in one log."""

from __future__ import annotations

import signal

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.slurm.runs import send
from videodpo.storage.tables import read_table

TRAINED = "results/small/round1/adapter"
STEPS = 60


def losses(run):
    """Loss of each step per unit of pair weight, so that large weights do not enlarge the difference of two runs."""
    log = read_table(run.round_folder / "train_log.parquet")
    return log["loss"] / log["weight_mean"]


def test_two_nodes_train_like_one_process_into_one_log(copies, alone, figures):
    run = copies()
    run.change("train_runtime", nodes=2)
    run.run(TRAINED)
    job = run.job("train")
    assert (job.state, job.num_nodes, job.gpus) == ("COMPLETED", 2, 2)
    figures("two nodes", {"steps": STEPS, "largest_difference_of_loss": compare(run, alone)})


def test_two_gpus_on_each_of_two_nodes_train_like_one_process(wider_nodes, prepared, figures):
    prepared, alone = in_smaller_passes(prepared)  # as many micro-batches as processes
    run = prepared.copy("two_gpus_of_2")
    run.change("train_runtime", processes=2, nodes=2)
    try:
        run.run(TRAINED)
        job = run.job("train")
    finally:
        run.stop()  # while SLURM's commands still use its cluster
    assert (job.state, job.num_nodes, job.gpus) == ("COMPLETED", 2, 4)
    assert "CUDA_VISIBLE_DEVICES 0,1" in (run.round_folder / "logs" / "train.log").read_text()
    figures("two GPUs of each of 2 nodes", {"steps": STEPS, "largest_difference_of_loss": compare(run, alone)})


def in_smaller_passes(prepared):
    """The prepared round with one pair per pass, and the same round trained in one process."""
    found = prepared.copy("smaller_passes"), prepared.copy("smaller_passes_alone")
    for run in found:
        run.change("schedule", micro_batch_size=1)
        with run.stages() as stages:
            stages.snapshot("reference")
            stages.reference()
            stages.snapshot("train")
    found[1].command("train")
    return found


def compare(run, alone):
    """Check for one log and one tracker run; return the largest difference of the loss, which is at most 1e-5."""
    difference = float(np.abs(losses(run) - losses(alone)).max())
    assert difference <= 1e-5
    log = (run.round_folder / "logs" / "train.log").read_text()
    assert log.count("training from step 0 of 60") == log.count(f"{STEPS} of {STEPS} steps") == 1
    (curves,) = (run.round_folder / "tracking").rglob("*tfevents*.0")
    events = EventAccumulator(str(curves))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(STEPS))
    assert not list(run.round_folder.rglob("*partial*"))
    return difference


def test_a_checkpoint_of_two_nodes_is_resumed_on_one(copies, alone, figures):
    run = copies(SLOW_RECORD="record.jsonl", SLOW_SECONDS="0.25")  # otherwise it ends before the signal
    run.change("train_runtime", nodes=2, checkpoint_steps=10)
    run.start("--retries", "0", TRAINED)
    job = run.job("train")
    run.until(lambda: run.last_step() >= 10, "state")
    send(job, signal.SIGTERM)
    assert run.driver.wait() != 0
    stopped = run.last_step()
    assert 10 <= stopped < STEPS
    run.change("train_runtime", nodes=1)
    run.run(TRAINED)
    assert run.job("train").num_nodes == 1
    log = read_table(run.round_folder / "train_log.parquet")
    assert log["step"].tolist() == list(range(STEPS))
    difference = float(np.abs(losses(run) - losses(alone)).max())
    figures("2 to 1 nodes", {"at_step": stopped, "largest_difference_of_loss": difference})
    assert difference <= 1e-5
