"""Jobs whose time limit is a fifth of their work stop by themselves and repeat almost no work."""

from __future__ import annotations

import pandas as pd
import pytest
from safetensors.torch import load_file

from tests.slurm.limits import COUNT, LIMITS, SIGNALS, TARGETS, WORK
from tests.slurm.runs import Round
from videodpo.stages.score.store import Store
from videodpo.storage.tables import read_shards

MOST_SUBMISSIONS = 7
MOST_LOST = 0.03


@pytest.mark.parametrize("stage", TARGETS)
def test_a_stage_ends_in_seven_submissions_and_repeats_little_work(limited, stage, figures):
    run = limited[stage]
    run.finish()
    done = pd.DataFrame([row for row in run.record() if row["stage"] == stage])
    jobs = [job for job in run.jobs() if job.rule == stage]
    lost = _redone(done)
    values = {"work_seconds": WORK, "limit_seconds": LIMITS[stage], "signal": SIGNALS[stage], "submissions": len(jobs)}
    figures(f"time limit of {stage}", values | {"states": [job.state for job in jobs], "share_redone": lost})
    assert done["piece"].nunique() == COUNT
    assert 4 <= len(jobs) <= MOST_SUBMISSIONS
    assert jobs[-1].state == "COMPLETED"
    assert max(lost) <= MOST_LOST
    found, expected = (MADE[stage](one) for one in (run, limited["expected"]))
    assert len(found) > 0
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def _clips(run: Round) -> pd.DataFrame:
    return read_shards(run.round_folder / "videos")


def _measured(run: Round) -> pd.DataFrame:
    store = Store(run.round_folder / "scores" / "by-clip" / "shard-00000.jsonl")
    return pd.DataFrame([(*key, *measured) for key, measured in sorted(store.known.items())])


def _adapter(run: Round) -> pd.DataFrame:
    weights = load_file(run.round_folder / "adapter" / "pytorch_lora_weights.safetensors")
    return pd.DataFrame({"weight": weights.keys(), "bytes": [value.numpy().tobytes() for value in weights.values()]})


MADE = {"generate": _clips, "score": _measured, "train": _adapter}


def _redone(done: pd.DataFrame) -> list[float]:
    """For each job but the last, the share of all work that a later job repeated."""
    last = done.groupby("piece")["job"].max()
    numbers = sorted(done["job"].unique())
    of = {number: done[done["job"] == number]["piece"] for number in numbers}
    return [float((last[of[number]] > number).sum()) / COUNT for number in numbers[:-1]]
