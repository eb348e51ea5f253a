"""Jobs whose time limit is a fifth of their work: they end by themselves, and do next to nothing twice."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from tests.slurm.runs import Round, slow_run

MINUTES = 1  # SLURM knows no shorter limit; it looks every 30 s, and so gives up to half a minute more
WORK = 5 * 60 * MINUTES  # seconds
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
        limit = [f"{stage}:runtime={MINUTES}", f"{stage}:slurm_extra=''"]
        run.start("--retries", "8", "--set-resources", *limit, "--", TARGETS[stage])
    return runs


@pytest.mark.parametrize("stage", TARGETS)
def test_a_stage_ends_in_seven_submissions_and_loses_little_at_each(limited, stage, figures):
    run = limited[stage]
    run.finish()
    rows = [json.loads(line) for line in (run.folder / "record.jsonl").read_text().splitlines()]
    record = pd.DataFrame([row for row in rows if row["stage"] == stage])
    jobs = [job for job in run.jobs() if job.rule == stage]
    lost = _redone(record)
    values = {"work_seconds": WORK, "limit_seconds": 60 * MINUTES, "submissions": len(jobs)}
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
