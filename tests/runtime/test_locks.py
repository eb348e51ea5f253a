"""Locks exclude a second writer and a second driver of a run, and name their holder."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from videodpo.runtime.locks import Held, driver, exclusive, is_held, take_run, writes

HOLDER = """
import sys, time
from pathlib import Path
from videodpo.runtime.locks import exclusive, take_run
folder, output = Path(sys.argv[1]), sys.argv[2]
if output == "the run":
    take_run(folder)
    print("held", flush=True)
    time.sleep(600)
with exclusive(folder, folder / output):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def hold(tmp_path):
    """Function that starts a process with a lock of the run in `tmp_path`; the processes are killed at the end."""
    holders = []

    def start(output):
        program = [sys.executable, "-c", HOLDER, str(tmp_path), output]
        holders.append(subprocess.Popen(program, stdout=subprocess.PIPE, text=True))
        assert holders[-1].stdout.readline() == "held\n"
        return holders[-1]

    yield start
    for holder in holders:
        holder.kill()
        holder.communicate()


def test_a_second_writer_is_refused_with_the_holder_of_the_lock(tmp_path, hold):
    holder = hold("round1/pairs.parquet")
    with pytest.raises(Held, match=f"held by pid {holder.pid} on .* since 20"):
        take(tmp_path, "round1/pairs.parquet")
    take(tmp_path, "round2/pairs.parquet")


def test_the_lock_of_a_killed_holder_is_free(tmp_path, hold):
    holder = hold("pairs.parquet")
    holder.kill()
    holder.wait()
    take(tmp_path, "pairs.parquet")


def test_checking_whether_a_lock_is_held_makes_no_job_fail(tmp_path):
    """The check takes the shared lock for a moment."""
    take(tmp_path, "pairs.parquet")
    with open(tmp_path / "locks" / "pairs.parquet.lock") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        threading.Timer(0.2, lambda: fcntl.flock(look, fcntl.LOCK_UN)).start()
        take(tmp_path, "pairs.parquet")


def test_a_slurm_job_waits_for_the_end_of_its_earlier_try(tmp_path, hold, monkeypatch, caplog):
    """The earlier try may still save its state, and an NFS server may keep its lock for the length of a lease."""
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    caplog.set_level("INFO")
    dying = hold("round1/adapter")
    threading.Timer(1.5, dying.kill).start()
    take(tmp_path, "round1/adapter")
    assert f"held by pid {dying.pid} on" in caplog.text


def test_a_lock_can_be_taken_again_after_its_release(tmp_path):
    for _ in range(2):
        take(tmp_path, "pairs.parquet")


def test_a_second_driver_is_refused_with_the_name_of_the_first(tmp_path, hold):
    assert driver(tmp_path) is None
    first = hold("the run")
    assert driver(tmp_path).startswith(f"pid {first.pid} on ")
    with pytest.raises(Held, match=f"pid {first.pid} on .* since 20"):
        take_run(tmp_path)


def test_a_driver_is_refused_while_a_job_of_an_earlier_one_runs(tmp_path, hold):
    job = hold("round1/adapter")
    with pytest.raises(Held, match=rf"still run.*\n  round1-adapter: pid {job.pid} on "):
        take_run(tmp_path)
    job.kill()
    job.wait()
    hold("the run")


def take(folder: Path, output: str) -> None:
    with exclusive(folder, folder / output):
        pass


def test_a_stage_that_writes_a_table_runs_once_at_a_time(tmp_path, hold):
    @writes("omniscore.parquet")
    def stage(snapshot, round_folder):
        return round_folder.name

    snapshot = SimpleNamespace(folder=tmp_path)
    assert stage(snapshot, tmp_path / "round1") == "round1"
    holder = hold("round1/omniscore.parquet")
    with pytest.raises(Held, match=f"pid {holder.pid} on "):
        stage(snapshot, tmp_path / "round1")


def test_a_job_locks_its_log_until_it_ends(tmp_path):
    log = tmp_path / "job.log"
    program = "from videodpo.runtime.logs import log_start; log_start(['train']); print('started', flush=True); input()"
    with open(log, "a") as file:
        job = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True
        )
    assert job.stdout.readline() == "started\n"
    assert is_held(log)
    job.kill()
    job.communicate()
    assert not is_held(log)
