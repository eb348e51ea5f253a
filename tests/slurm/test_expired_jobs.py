"""Jobs whose time limit is a fifth of their work: they end by themselves, and do next to nothing twice."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.slurm.limits import COUNT, LIMIT, TARGETS, WORK

MOST_SUBMISSIONS = 7
MOST_LOST = 0.03


@pytest.mark.parametrize("stage", TARGETS)
def test_a_stage_ends_in_seven_submissions_and_loses_little_at_each(limited, stage, figures):
    run = limited[stage]
    run.finish()
    done = pd.DataFrame([row for row in run.record() if row["stage"] == stage])
    jobs = [job for job in run.jobs() if job.rule == stage]
    lost = _redone(done)
    values = {"work_seconds": WORK, "limit_seconds": LIMIT, "submissions": len(jobs)}
    figures(f"time limit of {stage}", values | {"states": [job.state for job in jobs], "share_redone": lost})
    assert done["piece"].nunique() == COUNT
    assert 4 <= len(jobs) <= MOST_SUBMISSIONS
    assert jobs[-1].state == "COMPLETED"
    assert max(lost) <= MOST_LOST


def _redone(done: pd.DataFrame) -> list[float]:
    """Of all the work, the share that was done in each job but the last and again in a later one."""
    last = done.groupby("piece")["job"].max()
    numbers = sorted(done["job"].unique())
    of = {number: done[done["job"] == number]["piece"] for number in numbers}
    return [float((last[of[number]] > number).sum()) / COUNT for number in numbers[:-1]]
