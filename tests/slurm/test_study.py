"""A study on the cluster: its arms share the samples, and an arm that fails does not stop the others."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.slurm.runs import Run
from tests.support.studies import BROKEN, make_study, with_arm, write_study
from videodpo.storage.tables import read_table

CALL = ("--config", "study=study.yaml", "--", "study")


@pytest.fixture(scope="module")
def study(cluster, random_model, running, tmp_path_factory):
    """A study whose arm `sft` has failed."""
    folder = make_study(tmp_path_factory.mktemp("study"), random_model, arms=with_arm("sft", **BROKEN))
    run = running(Run(folder))
    run.start(*CALL)
    assert run.driver.wait() != 0
    return run


def arms_in_table(study):
    return set(read_table(study.folder / "results/tiny/study.parquet").arm)


def test_a_failed_arm_does_not_stop_others_and_is_all_that_runs_again(study, figures):
    jobs = study.jobs()
    figures("study of three arms", {"jobs": len(jobs), "by_node": dict(Counter(job.nodes for job in jobs))})
    rules = Counter(job.rule for job in jobs)
    assert rules["generate"] == rules["score"] == rules["reference"] == 1
    assert Counter(job.state for job in jobs if job.rule == "train")["COMPLETED"] == 2
    assert {job.rule for job in jobs if job.state != "COMPLETED"} == {"train"}
    assert arms_in_table(study) == {"dpo", "plain"}

    write_study(study.folder)
    study.run(*CALL)
    new = Counter(job.rule for job in study.jobs() if job not in jobs)
    assert new["train"] == new["evaluate"] == 1
    assert not new.keys() & {"generate", "score", "pairs", "reference"}
    assert arms_in_table(study) == {"dpo", "plain", "sft"}
