"""`videodpo status` on a run of the real Snakemake: while it runs, after it was killed, and at its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.conftest import small_run
from tests.support.workspace import make_workspace, snakemake, without_default_scorers

OPTIONS = ["--cores", "2", "--nolock", "--ignore-incomplete", "--configfile", "overlay.yaml"]
SAMPLED = "results/small/round1/videos/shards.json"


def status(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-X", "importtime", "-m", "videodpo", "status", "results/small", *arguments]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert not any(line.endswith((" torch", " diffusers")) for line in answer.stderr.splitlines())
    return answer.stdout


def line(said: str, stage: str) -> list[str]:
    return next(line for line in said.splitlines() if line.startswith(stage)).removeprefix(stage).split()


def test_status_follows_a_run_that_is_killed_and_started_again(random_model, tmp_path):
    overlay = without_default_scorers(small_run(random_model, Path("results")))
    overlay["generate"]["shards"] = 2
    folder = make_workspace(tmp_path / "workspace", overlay)
    driver = subprocess.Popen(["snakemake", *OPTIONS, "--", SAMPLED], cwd=folder, start_new_session=True)
    logs = folder / "results/small/round1/logs/generate"
    try:
        while not any(log.stat().st_size for log in logs.glob("*.log")):
            assert driver.poll() is None
            time.sleep(0.1)
        while_running = status(folder, "--shards")
    finally:
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    assert "Snakemake runs (pid " in while_running
    assert line(while_running, "prompts")[:6] == ["1", "of", "1", "0", "0", "0"]
    assert "round1 generate shard-0000" in while_running
    assert f"  running  started ({os.uname().nodename}, process " in while_running
    killed = status(folder)
    assert "Snakemake does not run" in killed
    assert line(killed, "round1 generate")[3] == "0"
    assert "stopped: round1 generate shard-0000" in killed
    assert "log: results/small/round1/logs/generate/shard-0000" in killed
    answer = snakemake(folder, *OPTIONS, "--", SAMPLED)
    assert answer.returncode == 0, answer.stderr
    finished = status(folder)
    assert line(finished, "round1 generate")[:6] == ["2", "of", "2", "0", "0", "0"]
    assert finished.endswith("nothing is left to do\n")
