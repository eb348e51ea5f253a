"""Jobs that Snakemake plans after a change of a finished run."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.workspace import (
    BRIGHTNESS,
    FLICKER,
    SIGNS,
    Finished,
    Job,
    dry_run,
    make_workspace,
    snakemake,
    write_overlay,
)

AFTER_PAIRS = {
    "visits",
    "reference",
    "doctor",
    "train",
    "evaluate_generate",
    "evaluate_score",
    "evaluate_collect_scores",
    "evaluate_appearance",
    "evaluate",
    "report",
}


@pytest.fixture
def finished(session_run: Finished) -> Finished:
    """The finished run, with its own settings in place."""
    write_overlay(session_run.folder, session_run.overlay)
    return session_run


def rules(jobs: list[Job]) -> set[str]:
    return {job.rule for job in jobs} - {"all"}


def wildcards(jobs: list[Job], rule: str, *names: str) -> set[tuple[str, ...]]:
    """Values of these wildcards in the rule's jobs."""
    return {tuple(job.wildcards[name] for name in names) for job in jobs if job.rule == rule}


def test_a_second_call_does_nothing(finished):
    assert finished.jobs() == []


def test_a_changed_scorer_reruns_its_dimension_in_all_shards_and_later_rules(finished):
    jobs = finished.jobs_after("dimensions.brightness.options.gain", 2.0)
    assert rules(jobs) == {"snapshot", "score", "collect_scores", "omniscore", "pairs"} | AFTER_PAIRS
    assert wildcards(jobs, "snapshot", "snapshot") == {("score/brightness",)}
    assert wildcards(jobs, "score", "shard") == {("00000",), ("00001",)}
    assert wildcards(jobs, "collect_scores", "dimension") == {(BRIGHTNESS,)}
    # The base model's held-out clips stay; the aligned model's are re-sampled, and so re-scored in all dimensions.
    assert wildcards(jobs, "evaluate_generate", "arm") == {("aligned",)}
    arms = wildcards(jobs, "evaluate_collect_scores", "arm", "dimension")
    assert arms == {("base", BRIGHTNESS), ("aligned", BRIGHTNESS), ("aligned", FLICKER)}


def test_a_new_dimension_outside_the_omniscore_is_scored_without_a_new_training(finished):
    jobs = finished.jobs_after("dimensions.dynamic_degree_dis", {})
    scoring = {"score", "collect_scores", "evaluate_score", "evaluate_collect_scores"}
    assert rules(jobs) == {"snapshot", "evaluate", "report"} | scoring
    assert wildcards(jobs, "collect_scores", "dimension") == {("dynamic_degree_dis",)}  # for its headroom


def test_a_new_omniscore_weight_re_scores_and_re_samples_nothing(finished):
    jobs = finished.jobs_after("dimensions.brightness.weight", 0.5)
    assert rules(jobs) == {"snapshot", "omniscore", "pairs"} | AFTER_PAIRS
    assert wildcards(jobs, "snapshot", "snapshot") == {("omniscore",), ("evaluate",)}
    assert wildcards(jobs, "evaluate_collect_scores", "arm") == {("aligned",)}


def test_a_new_alpha_reruns_only_pairs_and_later_rules(finished):
    jobs = finished.jobs_after("pairs.reweight.exponent", 0.0)
    assert rules(jobs) == {"snapshot", "pairs"} | AFTER_PAIRS
    assert wildcards(jobs, "snapshot", "snapshot") == {("pairs",)}
    assert wildcards(jobs, "evaluate_generate", "arm") == {("aligned",)}


def test_votes_rerun_only_pairs_and_later_rules(finished):
    (finished.folder / "labels.parquet").write_bytes(b"votes")  # a plan reads no table
    jobs = finished.jobs_after("pairs.labels", {"source": "human", "path": "labels.parquet"})
    assert rules(jobs) == {"snapshot", "pairs"} | AFTER_PAIRS
    assert wildcards(jobs, "snapshot", "snapshot") == {("pairs",)}


def test_a_new_beta_retrains_and_evaluates_with_the_same_reference_errors(finished):
    jobs = finished.jobs_after("train.beta", 200.0)
    assert rules(jobs) == {"snapshot"} | AFTER_PAIRS - {"visits", "reference"}
    assert wildcards(jobs, "snapshot", "snapshot") == {("train",)}
    assert (
        wildcards(jobs, "evaluate_generate", "arm")
        == wildcards(jobs, "evaluate_collect_scores", "arm")
        == {("aligned",)}
    )


def test_a_dry_run_says_why_each_job_runs(finished):
    jobs = finished.plan_after("train.beta", 200.0)
    reasons = {block.partition(":")[0]: re.search(r"^ +reason: (.*)$", block, re.MULTILINE)[1] for block in jobs}
    assert reasons["snapshot"].startswith("Params have changed since last execution: ")
    assert reasons["train"].startswith(f"Input files updated by another job: {SIGNS}/small/config/train.json, ")
    assert reasons["report"].startswith("Input files updated by another job: ")
    assert max(map(len, jobs)) < 3000  # the folder has a long name


def test_report_settings_rerun_only_the_report(finished):
    jobs = finished.jobs_after("report.num_pairs", 3)
    assert rules(jobs) == {"snapshot", "report"}
    assert wildcards(jobs, "snapshot", "snapshot") == {("report",)}


def test_execution_settings_rerun_nothing(finished):
    runtime = {"processes": 2, "gradient_checkpointing": "full", "samples": {"num_prompts": 1}}
    settings = {"max_failed_fraction": 0.3, "device": "auto"}
    runtime = finished.overlay["train_runtime"] | runtime
    write_overlay(finished.folder, finished.overlay | settings | {"train_runtime": runtime})
    assert finished.jobs() == []


def test_an_unfinished_run_resumes_after_an_edit_of_execution_settings(finished, tmp_path):
    folder = unfinished(finished, tmp_path, "adapter", "doctor.json")
    write_overlay(folder, finished.overlay | {"max_failed_fraction": 0.3})
    target = f"{SIGNS}/small/round1/adapter"
    answer = snakemake(folder, "--cores", "1", "--configfile", "overlay.yaml", "--", target, **finished.environment)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert (folder / target).is_dir()
    snapshot = json.loads((folder / f"{SIGNS}/small/config/execution.json").read_text(encoding="utf-8"))
    assert snapshot["settings"]["max_failed_fraction"] == 0.3


def test_an_edit_is_noticed_without_the_records_of_snakemake(finished, tmp_path):
    """Without .snakemake it does not know which settings a snapshot has, and would keep an outdated one."""
    folder = unfinished(finished, tmp_path, "pairs.parquet")
    write_overlay(folder, finished.overlay | {"pairs": {"reweight": {"exponent": 0.0}}})
    shutil.move(folder / ".snakemake", tmp_path / "records")
    call = ("--configfile", "overlay.yaml", "--", f"{SIGNS}/small/round1/pairs.parquet")
    for records in ("gone", "of other files"):
        answer = snakemake(folder, "--cores", "1", *call, **finished.environment)
        output = answer.stdout + answer.stderr
        assert answer.returncode != 0, records
        assert "Settings that changed: pairs\n" in output
        assert f"settings snapshots differ from the configuration: {SIGNS}/small/config/pairs.json. " in output
        (folder / ".snakemake" / "metadata").mkdir(parents=True, exist_ok=True)
    assert not (folder / f"{SIGNS}/small/round1/pairs.parquet").exists()


def unfinished(finished: Finished, place: Path, *missing: str) -> Path:
    """A copy of the run with Snakemake's records, without some products of the round."""
    folder = place / "unfinished"
    shutil.copytree(finished.folder, folder, symlinks=True)
    for name in missing:
        path = folder / f"{SIGNS}/small/round1" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def test_a_plan_that_omits_missing_files_is_not_a_success(finished, tmp_path):
    """Snakemake does not plan beyond an `ancient` input that is re-created."""
    folder = unfinished(finished, tmp_path, "omniscore.parquet")
    call = ("--cores", "2", "--configfile", "overlay.yaml")
    target = ("--", f"{SIGNS}/small/round1/omniscore.parquet")
    answer = snakemake(folder, *call, "--forcerun", "score", *target, **finished.environment)
    assert answer.returncode != 0
    assert f"omitted these from its plan: {SIGNS}/small/round1/omniscore.parquet; start again" in answer.stderr
    answer = snakemake(folder, *call, *target, **finished.environment)
    assert answer.returncode == 0, answer.stderr
    assert (folder / target[1]).exists()


def test_comments_and_the_order_of_keys_rerun_nothing(finished):
    def backwards(value: Any) -> Any:
        return {key: backwards(value[key]) for key in reversed(value)} if isinstance(value, dict) else value

    file = finished.folder / "config.yaml"
    before = file.read_text(encoding="utf-8")
    try:
        turned = yaml.safe_dump(backwards(yaml.safe_load(before)), sort_keys=False)
        file.write_text(f"# another comment\n{turned}", encoding="utf-8")
        assert finished.jobs() == []
    finally:
        file.write_text(before, encoding="utf-8")


def test_a_million_prompts_need_fewer_than_3000_jobs(tmp_path):
    folder = make_workspace(tmp_path, {"prompts": {"num_train": 1_000_000}})
    jobs = dry_run(folder, "--configfile", "config.yaml", "overlay.yaml")
    assert 2000 < len(jobs) < 3000
