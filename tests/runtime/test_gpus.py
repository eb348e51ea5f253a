"""Concurrent jobs on one machine reserve different GPUs. The GPUs are pretended, the jobs are real."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.support.pretend_gpus import pretend_gpus
from videodpo.runtime.gpus import reserve_gpus, visible_gpus

JOB = """
import os, sys, time
from videodpo.runtime.gpus import reserve_gpus
reserve_gpus("auto", int(sys.argv[1]))
print(os.environ.get("CUDA_VISIBLE_DEVICES", "not set"), flush=True)
os.execvp("sleep", ["sleep", "600"])  # as a training becomes its launcher
"""


class Job:
    """A process that reserves GPUs, prints their names, and holds them."""

    def __init__(self, count: int, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", JOB, str(count)], env=environment, stdout=subprocess.PIPE, text=True
        )

    @property
    def gpus(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(tmp_path):
    """Function that starts jobs on a machine with four GPUs."""
    jobs: list[Job] = []
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= pretend_gpus(tmp_path, 4)

    def call(count: int, **more: str) -> Job:
        jobs.append(Job(count, environment | more))
        return jobs[-1]

    yield call
    for job in jobs:
        job.end()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Function that pretends `count` GPUs to this process; returns an environment without CUDA_VISIBLE_DEVICES."""

    def call(count: int) -> dict[str, str]:
        environment = pretend_gpus(tmp_path, count)
        monkeypatch.setenv("PATH", environment["PATH"])
        return {}

    return call


def test_concurrent_jobs_get_different_gpus_and_an_additional_one_waits(start):
    jobs = [start(1) for _ in range(4)]
    assert sorted(job.gpus for job in jobs) == ["0", "1", "2", "3"]
    late = start(1)
    time.sleep(1)
    assert late.process.poll() is None
    jobs[2].end()
    assert late.gpus in {"0", "1", "2", "3"}


def test_a_training_reserves_all_its_gpus_together_or_none(start):
    one = start(1)
    assert one.gpus == "0"
    training = start(4)
    other = start(3)
    assert other.gpus == "1,2,3"  # the training holds nothing while it waits
    one.end()
    other.end()
    assert training.gpus == "0,1,2,3"


def test_an_outer_list_of_gpus_is_kept(start):
    jobs = [start(1, CUDA_VISIBLE_DEVICES="GPU-3,1") for _ in range(2)]
    assert sorted(job.gpus for job in jobs) == ["1", "GPU-3"]
    assert start(1, CUDA_VISIBLE_DEVICES="1,3,2").gpus == "2"  # the same GPUs by other names


def test_gpus_assigned_by_a_scheduler_are_used(start):
    """SLURM may intentionally give one GPU to several jobs."""
    assert [start(1, CUDA_VISIBLE_DEVICES="2").gpus for _ in range(2)] == ["2", "2"]
    assert start(2, CUDA_VISIBLE_DEVICES="2,3").gpus == "2,3"


@pytest.mark.parametrize(("count", "device"), [(0, "auto"), (1, "auto"), (4, "cpu")])
def test_without_a_choice_nothing_is_reserved(count, device, machine):
    environment = machine(count)
    reserve_gpus(device, 1, environment)
    assert environment == {}


def test_the_processes_of_a_training_reserve_nothing_themselves(machine):
    machine(4)
    environment = {"VIDEODPO_GPUS": "0,1", "CUDA_VISIBLE_DEVICES": "0,1"}
    reserve_gpus("auto", 1, environment)
    assert environment["CUDA_VISIBLE_DEVICES"] == "0,1"


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("", []),
        ("-1", []),
        ("1,-1,0", ["1"]),
        ("1,9,0", ["1"]),
        ("MIG-a,MIG-b", ["MIG-a", "MIG-b"]),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(value, names, machine):
    machine(4)
    assert list(visible_gpus({"CUDA_VISIBLE_DEVICES": value})) == names
