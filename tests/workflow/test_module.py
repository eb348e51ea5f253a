"""What Snakemake plans for a workflow that uses this one as a module."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.own_workflow import example, make_own_workflow
from tests.support.workspace import dry_run, snakemake


def test_a_workflow_with_ours_as_a_module_plans_all_rules_under_their_new_names(random_model, tmp_path):
    jobs = dry_run(make_own_workflow(tmp_path, random_model, example()))
    count = Counter(job.rule for job in jobs)
    assert (count["all"], count["card"], count["videodpo_train"], count["videodpo_evaluate"]) == (1, 1, 1, 1)
    assert all(name in ("all", "card") or name.startswith("videodpo_") for name in count)


@pytest.mark.parametrize("place", ['prefix: "elsewhere"', 'replace_prefix: {"results/": "elsewhere/"}'])
def test_a_prefix_is_refused_because_the_stages_would_not_know_it(random_model, tmp_path, place):
    snakefile = example().replace("    config:\n", f"    {place}\n    config:\n")
    answer = snakemake(make_own_workflow(tmp_path, random_model, snakefile), "--dry-run")
    assert answer.returncode != 0
    assert "`prefix` and `replace_prefix` are not supported; set `results`" in answer.stdout + answer.stderr
