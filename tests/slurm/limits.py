"""Runs whose jobs have a time limit of a fifth of their work."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path

from tests.slurm.runs import Round, slow_run

LOOKS_EVERY = 30  # seconds between SLURM's checks of time limits: jobs end up to this late, half of it on average
ALLOWED = 45  # seconds from a job's first piece of work: a job's start-up is short compared to a real limit
WORK = 5 * ALLOWED
AHEAD = 10  # seconds between signal and limit; SLURM sends the signal up to one check earlier
# SIGTERM at the limit itself, and the two signals that a profile may request before it.
SIGNALS = {"generate": "", "score": f"--signal=USR1@{AHEAD}", "train": f"--signal=TERM@{AHEAD}"}
LIMITS = {
    stage: int(ALLOWED + (AHEAD + LOOKS_EVERY / 2 if signal else -LOOKS_EVERY / 2)) for stage, signal in SIGNALS.items()
}
COUNT = 100  # clips to sample, clips to score, micro-batches to train on
TARGETS = {
    "generate": "results/small/round1/videos/shard-00000.parquet",
    "score": "results/small/round1/scores/shard-00000.json",
    "train": "results/small/round1/adapter",
}


def started(folder: Path, model: Path) -> dict[str, Round]:
    """Started runs, one per stage in `TARGETS`. Their work is sleeping, so they do not disturb other runs.

    `expected` is the same run without the cluster.
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
        # Replaces the profile's signal, which comes five minutes before the limit; uses no GPUs, which other runs need.
        changed = [f"{stage}:slurm_extra='{SIGNALS[stage]}'", f"{stage}:gpu=0"]
        run.start("--retries", "8", "--set-resources", *changed, "--", TARGETS[stage])
        threading.Thread(target=_limit, args=(run, LIMITS[stage]), daemon=True).start()
    prepared.command("train")
    return runs | {"expected": prepared}


def _limit(run: Round, seconds: int) -> None:
    """Set every job's time limit when it begins to work: a limit in full minutes would be mostly start-up here."""
    limited = set()
    while run.driver and run.driver.poll() is None:
        working = {row["job"] for row in run.record()[-1:]}
        for number in working - limited:
            update = ["scontrol", "update", f"JobId={number}", f"EndTime=now+{seconds}"]
            subprocess.run(update, check=False)  # the job may have ended
        limited |= working
        time.sleep(0.2)
