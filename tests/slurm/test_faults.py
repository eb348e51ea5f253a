"""Faults of a cluster and their cost: lost nodes, time limits, preemption, a killed driver."""

from __future__ import annotations

import re
import subprocess
from collections import Counter

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.slurm.runs import Round, slow_run
from videodpo.storage.tables import read_shards, read_table

TRAINED = "results/small/round1/adapter"
STEPS = 60
SLOW = {"SLOW_SECONDS": "0.25"}  # per micro-batch; a step has two


def adapter(run):
    return load_file(run.round_folder / "adapter" / "pytorch_lora_weights.safetensors")


def same_training(run, alone):
    log, expected = (read_table(one.round_folder / "train_log.parquet") for one in (run, alone))
    np.testing.assert_array_equal(log["loss"], expected["loss"])
    for name, value in adapter(alone).items():
        assert torch.equal(adapter(run)[name], value), name


def scontrol(*arguments):
    subprocess.run(["scontrol", *arguments], check=True)


def pieces(run, stage):
    """Record of the stage's work by the slow plug-in in order, [time, job, piece]."""
    return pd.DataFrame(
        [row for row in run.record() if row["stage"] == stage], columns=["stage", "time", "job", "piece"]
    )


@pytest.fixture
def slow(copies, tmp_path):
    """A prepared round whose training takes at least 30 s and records its micro-batches."""
    return copies(SLOW_RECORD="record.jsonl", **SLOW)


def test_requeue_and_preemption_of_a_training_end_in_the_same_weights(slow, alone, figures):
    """Both send SIGTERM, wait, and kill; the state is saved in between, regardless of checkpoint_minutes."""
    slow.start("--set-resources", "train:slurm_partition=preemptible", "--", TRAINED)
    reached = [0]

    def interrupted(cause):
        slow.until(lambda: trained_steps(slow) > reached[-1] + 5, f"more than {reached[-1]} steps")
        cause()
        before = reached[-1]
        slow.until(lambda: slow.last_step() > before, "state")
        reached.append(slow.last_step())

    interrupted(lambda: scontrol("requeue", str(slow.job("train").number)))
    rival = ["sbatch", "--parsable", "--partition=gpu", "--nodes=2", "--gpus-per-node=1", "--output=/dev/null"]
    rival.append("--wrap=sleep 3")
    interrupted(lambda: subprocess.run(rival, check=True, stdout=subprocess.DEVNULL))
    slow.finish()
    same_training(slow, alone)
    starts = [job for job in slow.jobs() if job.rule == "train"]
    redone = trained_steps(slow) - STEPS
    figures("requeue and preemption", {"starts": len(starts), "states_at_steps": reached[1:], "steps_redone": redone})
    assert len(starts) == 3
    assert redone == 0


def trained_steps(run):
    """Number of recorded training steps, including repeated ones."""
    return len(pieces(run, "train")) // 2


def test_a_killed_node_costs_a_training_less_than_checkpoint_minutes(cluster, slow, alone, figures):
    minutes = 0.05
    slow.change("train_runtime", checkpoint_minutes=minutes)
    slow.start(TRAINED)
    slow.until(lambda: trained_steps(slow), "step")
    node = slow.job("train").nodes
    slow.until(lambda: slow.last_step() >= 10, "state")
    cluster.kill_node(node)
    done, kept = trained_steps(slow), slow.last_step()
    assert done < STEPS
    try:
        slow.finish()
    finally:
        cluster.start_node(node)
    same_training(slow, alone)
    assert slow.job("train").nodes != node
    record = pieces(slow, "train")
    killed_at = record["time"].diff().idxmax()  # the longest gap is that of the lost node
    lost = len(record) // 2 - STEPS
    seconds = record["time"][killed_at - 1] - record["time"][2 * kept] if lost else 0.0
    figures(
        "lost node in training", {"steps_done": done, "state_at": kept, "steps_redone": lost, "seconds_lost": seconds}
    )
    assert seconds <= 60 * minutes + 1.0  # and the step at its end


@pytest.fixture
def tables(cluster, running, random_model, tmp_path):
    """A run from the prompts to the pairs with two shards of slow sampling; not yet started."""
    raw = slow_run(random_model, generate={"shards": 2})
    raw["generate"]["sampling"]["batch_size"] = 1
    raw["generate"]["videos_per_prompt"] = 4
    return running(Round(tmp_path / "run", raw, SLOW_RECORD="record.jsonl", SLOW_SECONDS="1.5"))


def shards_at_work(run):
    return pieces(run, "generate")["job"].nunique()


def test_a_run_ends_on_the_other_node_with_the_same_tables(cluster, tables, figures):
    tables.start("--until", "pairs")
    tables.until(lambda: shards_at_work(tables) == 2, "two shards at work")
    node = next(job for job in tables.jobs() if job.rule == "generate").nodes
    cluster.kill_node(node)
    try:
        tables.finish()
    finally:
        cluster.start_node(node)
    expected = Round(tables.folder.with_name("expected"), tables.raw)
    torch.set_num_threads(1)
    with expected.stages() as stages:
        stages.until_pairs()
    for name in ("omniscore", "pairs"):
        found, undisturbed = (read_table(one.round_folder / f"{name}.parquet") for one in (tables, expected))
        pd.testing.assert_frame_equal(found, undisturbed, check_exact=True)
    clips = [read_shards(one.round_folder / "videos")["sha256"].tolist() for one in (tables, expected)]
    assert clips[0] == clips[1]
    starts = Counter(job.rule for job in tables.jobs())
    redone = len(pieces(tables, "generate")) - len(clips[0])
    figures("node killed", {"starts": dict(starts), "batches_redone": redone, "of": len(clips[0])})
    assert starts["generate"] == 3
    assert redone <= 1
    assert {job.nodes for job in tables.jobs() if job.rule == "pairs"} != {node}


def test_a_second_driver_names_the_jobs_of_a_killed_one_and_stops(tables, figures):
    tables.start("--until", "generate")
    tables.until(lambda: shards_at_work(tables) == 2, "two shards at work")
    tables.driver.kill()
    tables.driver.wait()
    submitted = len(tables.jobs())
    tables.start("--until", "generate")
    assert tables.driver.wait() != 0
    output = (tables.folder / "driver.log").read_text()
    assert "jobs of an earlier start still run" in output
    assert re.search(r"shard-0000\d.*: pid \d+ on \S+ since", output), output
    tables.driver = None
    tables.until(lambda: {job.state for job in tables.jobs()} == {"COMPLETED"}, "end of the jobs")
    assert len(tables.jobs()) == submitted
    tables.run("--until", "generate")
    record = pieces(tables, "generate")
    figures(
        "second driver",
        {"batches": record["piece"].nunique(), "batches_redone": len(record) - record["piece"].nunique()},
    )
    assert record["piece"].is_unique
