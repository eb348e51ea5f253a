"""A stage that receives a stop signal saves its state, and resumes from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from videodpo.runtime.exit_codes import Interrupted
from videodpo.runtime.signals import Interrupts
from videodpo.storage.tables import read_table


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_stops_a_stage_after_everything_is_saved(number):
    before = signal.getsignal(number)
    with Interrupts() as interrupts:
        interrupts.stop_here("nothing")
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted, match=f"{number.name} after 3 batches: the state is saved"):
            interrupts.stop_here("3 batches")
    assert signal.getsignal(number) == before


TWICE = """
import os, signal
from videodpo.runtime.signals import Interrupts
with Interrupts():
    os.kill(os.getpid(), signal.SIGINT)
    print("one Ctrl-C is noted", flush=True)
    os.kill(os.getpid(), signal.SIGINT)
    print("not reached", flush=True)
"""


def test_a_second_ctrl_c_kills():
    ended = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGINT
    assert ended.stdout == "one Ctrl-C is noted\n"
    assert "Traceback" not in ended.stderr


def test_stopped_sampling_keeps_its_batches_and_ends_like_an_undisturbed_one(stages, small_config):
    sampling = {"num_frames": 5, "height": 32, "width": 32, "fps": 8.0, "num_steps": 2, "batch_size": 1}
    run = stages(small_config(generate={"videos_per_prompt": 3, "shards": 1, "sampling": sampling}))
    run.prompts()
    work = run.round_folder / "videos" / "work" / "shard-00000"

    def stop_after_two() -> None:
        while len(list(work.glob("batch-??????.safetensors"))) < 3:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop_after_two)
    thread.start()
    with pytest.raises(Interrupted, match="SIGTERM after"):
        run.generate()
    thread.join()
    begun = (work / "progress.jsonl").read_text().splitlines()
    assert 2 <= len(begun) < 18
    clips = {path.name: path.stat().st_mtime_ns for path in (run.round_folder / "videos" / "clips").rglob("*.mp4")}
    assert len(clips) == len(begun)
    run.generate()
    table = read_table(run.round_folder / "videos" / "shard-00000.parquet")
    assert len(table) == 18
    after = {path.name: path.stat().st_mtime_ns for path in (run.round_folder / "videos" / "clips").rglob("*.mp4")}
    assert {name: after[name] for name in clips} == clips
