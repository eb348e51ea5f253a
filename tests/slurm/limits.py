"""Runs whose jobs have a time limit of a fifth of their work."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path

from tests.slurm.runs import Round, slow_run

LOOKS_EVERY = 30  # seconds: SLURM, at its jobs' limits; so it ends them that late at most, and half of that on average
ALLOWED = 45  # seconds, from a job's first piece of work on: what a job takes to start is nothing beside a real limit
WORK = 5 * ALLOWED
AHEAD = 10  # seconds before the limit for the signal; SLURM sends it up to one look earlier
# SIGTERM at the limit itself, and the two signals that a profile may ask for ahead of it.
SIGNALS = {"generate": "", "score": f"--signal=USR1@{AHEAD}", "train": f"--signal=TERM@{AHEAD}"}
LIMITS = {
    stage: int(ALLOWED + (AHEAD + LOOKS_EVERY / 2 if signal else -LOOKS_EVERY / 2)) for stage, signal in SIGNALS.items()
}
COUNT = 100  # clips to make, clips to measure, micro-batches to train on
TARGETS = {
    "generate": "results/small/round1/videos/shard-00000.parquet",
    "score": "results/small/round1/scores/shard-00000.json",
    "train": "results/small/round1/adapter",
}


def started(folder: Path, model: Path) -> dict[str, Round]:
    """A run of each stage in `TARGETS`, all under way: their work is to wait, so they disturb no other run.

    `expected` among them is the same, made without the cluster.
    """
    raw = slow_run(model, prompts={"num_train": COUNT // 4}, generate={"videos_per_prompt": 4})
    raw["generate"]["sampling"]["batch_size"] = 1
    raw["schedule"] = {
        "num_steps": COUNT,
        "global_batch_size": 4,
        "micro_batch_size": 4,
        "validation": {"num_prompts": 0},
    }
    raw["dimensions"]["slow"] = {"pillar": "quality", "min": 0.0, "max": 1.0}
    pace = {"SLOW_RECORD": "record.jsonl", "SLOW_SECONDS": str(WORK / COUNT)}
    prepared = Round(folder / "prepared", raw)
    prepared.prepare()
    runs = {stage: prepared.copy(stage, **pace) for stage in TARGETS}
    shutil.rmtree(runs["generate"].round_folder)
    shutil.rmtree(runs["score"].round_folder / "scores")
    for stage, run in runs.items():
        # Instead of the profile's signal, whose five minutes are more than the limit; the GPUs are left to other runs.
        changed = [f"{stage}:slurm_extra='{SIGNALS[stage]}'", f"{stage}:gpu=0"]
        run.start("--retries", "8", "--set-resources", *changed, "--", TARGETS[stage])
        threading.Thread(target=_limit, args=(run, LIMITS[stage]), daemon=True).start()
    prepared.command("train")
    return runs | {"expected": prepared}


def _limit(run: Round, seconds: int) -> None:
    """Give every job its time limit as it begins to work; its own, in whole minutes, would be mostly start-up here."""
    limited = set()
    while run.driver and run.driver.poll() is None:
        working = {row["job"] for row in run.record()[-1:]}
        for number in working - limited:
            update = ["scontrol", "update", f"JobId={number}", f"EndTime=now+{seconds}"]
            subprocess.run(update, check=False)  # the job may have ended
        limited |= working
        time.sleep(0.2)
