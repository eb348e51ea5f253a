"""Jobs whose time limit is a fifth of their work: they end by themselves, and do next to nothing twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from typing import Any

import pandas as pd
import pytest

from tests.slurm.runs import Round, slow_run

LIMIT = 30  # seconds, from a job's first piece of work on: what a job takes to start is nothing beside a real limit
LOOKS_EVERY = 30  # seconds: SLURM, at its jobs' limits; so it ends them that late at most, and half of that on average
WORK = 5 * (LIMIT + LOOKS_EVERY / 2)
MOST_SUBMISSIONS = 7
MOST_LOST = 0.03
COUNT = 100  # clips to make, clips to measure, micro-batches to train on
TARGETS = {
    "generate": "results/small/round1/videos/shard-00000.parquet",
    "measure": "results/small/round1/scores/shard-00000.json",
    "train": "results/small/round1/adapter",
}


@pytest.fixture(scope="module")
def limited(cluster, running, random_model, tmp_path_factory):
    """A run of each stage, all at once: their work is to wait, so they do not disturb each other."""
    raw = slow_run(random_model, prompts={"num_train": COUNT // 4}, generate={"videos_per_prompt": 4})
    raw["generate"]["sampling"]["batch_size"] = 1
    raw["schedule"] = {"num_steps": COUNT, "pairs_per_step": 4, "micro_batch": 4, "validation": {"num_prompts": 0}}
    raw["scores"]["slow"] = {}
    raw["omniscore"]["dimensions"]["slow"] = {"pillar": "quality", "min": 0.0, "max": 1.0}
    pace = {"SLOW_RECORD": "record.jsonl", "SLOW_SECONDS": str(WORK / COUNT)}
    prepared = Round(tmp_path_factory.mktemp("limited") / "prepared", raw)
    prepared.prepare()
    runs = {stage: running(prepared.copy(stage, **pace)) for stage in TARGETS}
    shutil.rmtree(runs["generate"].round_folder)
    shutil.rmtree(runs["measure"].round_folder / "scores")
    for stage, run in runs.items():
        # Without the profile's signal: its five minutes are more than the limit.
        run.start("--retries", "8", "--set-resources", f"{stage}:slurm_extra=''", "--", TARGETS[stage])
        threading.Thread(target=_limit, args=(run,)).start()
    return runs


def _limit(run: Round) -> None:
    """Give every job its time limit as it begins to work; its own, in whole minutes, would be mostly start-up here."""
    limited = set()
    while run.driver and run.driver.poll() is None:
        working = {row["job"] for row in _record(run)[-1:]}
        for number in working - limited:
            end = f"EndTime=now+{LIMIT}"
            subprocess.run(["scontrol", "update", f"JobId={number}", end], check=True)
        limited |= working
        time.sleep(0.2)


def _record(run: Round) -> list[dict[str, Any]]:
    path = run.folder / "record.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("stage", TARGETS)
def test_a_stage_ends_in_seven_submissions_and_loses_little_at_each(limited, stage, figures):
    run = limited[stage]
    run.finish()
    record = pd.DataFrame([row for row in _record(run) if row["stage"] == stage])
    jobs = [job for job in run.jobs() if job.rule == stage]
    lost = _redone(record)
    values = {"work_seconds": WORK, "limit_seconds": LIMIT, "submissions": len(jobs)}
    figures(f"time limit of {stage}", values | {"states": [job.state for job in jobs], "share_redone": lost})
    assert record["piece"].nunique() == COUNT
    assert 4 <= len(jobs) <= MOST_SUBMISSIONS
    assert jobs[-1].state == "COMPLETED"
    assert max(lost) <= MOST_LOST


def _redone(record: pd.DataFrame) -> list[float]:
    """Of all the work, the share that was done in each job but the last and again in a later one."""
    last = record.groupby("piece")["job"].max()
    numbers = sorted(record["job"].unique())
    of = {number: record[record["job"] == number]["piece"] for number in numbers}
    return [float((last[of[number]] > number).sum()) / COUNT for number in numbers[:-1]]
