"""A workflow that uses this one as a module runs its jobs."""

from __future__ import annotations

import pandas as pd

from tests.support.own_workflow import example, make_own_workflow
from tests.support.workspace import dry_run, snakemake

TARGET = "results/mine/prompts.parquet"


def test_a_module_runs_from_its_own_configuration_and_keeps_what_is_done(random_model, tmp_path):
    own = make_own_workflow(tmp_path, random_model, example())
    answer = snakemake(own, "--cores", "1", "--", TARGET)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert len(pd.read_parquet(own / TARGET)) == 8
    assert (own / "results/mine/config/execution.json").exists()  # written by the handler
    assert dry_run(own, "--", TARGET) == []


def test_a_module_without_its_handler_says_what_is_missing(random_model, tmp_path):
    snakefile = example().replace("    videodpo.onstart()\n", "    pass\n")
    own = make_own_workflow(tmp_path, random_model, snakefile)
    answer = snakemake(own, "--cores", "1", "--", TARGET)
    assert answer.returncode != 0
    log = (own / "results/mine/logs/snapshot/prompts.log").read_text(encoding="utf-8")
    assert "config/planned/prompts.json: missing; start the workflow again. A workflow that uses" in log
