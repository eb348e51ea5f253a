"""The demo on the cluster, from a fresh clone, with the unchanged profile.

It is reduced, so that it takes minutes; with VIDEODPO_SLURM_DEMO=whole in the environment it has its full size.
"""

from __future__ import annotations

import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.slurm.runs import Run
from tests.support.workspace import dry_run

ON_A_GPU = {"generate", "score", "reference", "doctor", "train"}
ON_A_GPU |= {"evaluate_generate", "evaluate_score"}
LOCAL = {"snapshot", "list_videos"}  # rules that the driver runs by itself
# Every dimension needs three jobs, and each job starts Snakemake twice.
LEFT_OUT = (
    "subject_consistency_clip",
    "background_consistency_clip",
    "motion_smoothness_dis",
    "dynamic_degree_dis",
    "imaging_quality_sharpness",
)
# Reduced from the demo's 200 prompts, 96 held-out ones, 150 steps and seven dimensions.
WHOLE = os.environ.get("VIDEODPO_SLURM_DEMO") == "whole"
FEWER = {
    "prompts": {"num_train": 32, "num_heldout": 8},
    "schedule": {"num_steps": 20},
    "dimensions": dict.fromkeys(LEFT_OUT),
    "pairs": {"filters": {"no_regression": {"dynamic_degree_dis": None}}},
    "evaluate": {"videos_per_prompt": 1, "bootstrap_resamples": 100, "motion_dimension": None}
    | {"diversity_dimension": None},
}
if WHOLE:
    FEWER = {"dimensions": {}}
OVERLAYS = ("presets/demo.yaml", "fewer.yaml")
CHANGED = "overall_consistency_clip"


class Demo(Run):
    """The finished run and its rows of the accounting."""

    def __init__(self, folder):
        clone = ["git", "clone", "--quiet", str(ROOT), str(folder)]
        subprocess.run(clone, check=True)
        super().__init__(folder, OVERLAYS)
        (folder / "fewer.yaml").write_text(yaml.safe_dump(FEWER), encoding="utf-8")
        self.output = self.run()
        self.done = self.jobs()
        self.results = self.folder / "results" / "demo"

    def planned(self, *arguments):
        configuration = ("--configfile", "config.yaml", *self.overlays)
        return [
            job for job in dry_run(self.folder, "--profile", "slurm", *configuration, *arguments) if job.rule != "all"
        ]


@pytest.fixture(scope="module")
def demo(cluster, limited, running, tmp_path_factory):
    return running(Demo(tmp_path_factory.mktemp("demo") / "clone"))


def test_every_job_succeeds_at_its_first_try_and_both_nodes_sample(demo, figures):
    assert (demo.results / "round1" / "report" / "index.html").is_file()
    assert {job.state for job in demo.done} == {"COMPLETED"}
    shares = Counter(job.nodes for job in demo.done)
    figures("whole demo" if WHOLE else "demo", {"jobs": len(demo.done), "by_node": dict(shares)})
    nodes = {
        job.nodes for job in demo.done if job.rule == "generate"
    }  # two shards at the same time, with one GPU per node
    assert nodes == {"n0", "n1"}


def test_a_gpu_job_requests_and_gets_one_gpu_and_other_jobs_get_none(demo):
    asked = {job.rule: job.gpus for job in demo.done}
    assert asked == {rule: int(rule in ON_A_GPU) for rule in asked}
    assert set(asked) >= ON_A_GPU
    seen = set()
    for log in demo.results.glob("**/logs/**/*.log"):
        rule = ON_A_GPU & {Path(log.parts[log.parts.index("logs") + 1]).stem}
        text, seen = log.read_text(), seen | rule
        assigned = text.count("CUDA_VISIBLE_DEVICES")
        assert assigned == text.count("CUDA_VISIBLE_DEVICES 0\n"), log
        assert bool(assigned) == bool(rule), log
    assert seen == ON_A_GPU


def test_logs_benchmarks_and_accounting_are_where_docs_slurm_says(demo):
    for job in demo.done:
        assert job.comment == f"rule_{job.rule}" + f"_wildcards_{job.wildcards}" * bool(job.wildcards)
        slurm = demo.folder / ".snakemake" / "slurm_logs" / f"rule_{job.rule}" / job.wildcards / f"{job.number}.log"
        assert slurm.is_file()
    logs = {path.relative_to(demo.results) for path in demo.results.glob("**/logs/**/*.log")}
    logs = {path for path in logs if not LOCAL & {*path.parts, path.stem}}
    assert len(logs) == len(demo.done)
    for path in logs:
        benchmark = str(path).replace("logs/", "benchmarks/").removesuffix("log") + "tsv"
        assert (demo.results / benchmark).read_text().startswith("s\th:m:s"), benchmark


def test_a_second_call_does_nothing_and_a_changed_scorer_reruns_its_dimension_and_later_rules(demo):
    demo.run()
    assert demo.jobs() == demo.done
    other = {"weights": str(ROOT / "demo" / "clip")}
    changed = FEWER | {"dimensions": FEWER["dimensions"] | {CHANGED: {"options": other}}}
    (demo.folder / "fewer.yaml").write_text(yaml.safe_dump(changed), encoding="utf-8")
    planned = demo.planned()
    rules = {job.rule for job in planned}
    following = {"omniscore", "pairs", "visits", "reference", "doctor", "train", "evaluate_generate", "evaluate_score"}
    following |= {"evaluate_collect_scores", "evaluate_appearance", "evaluate", "report"}
    assert rules == {"snapshot", "score", "collect_scores"} | following
    assert {job.wildcards["dimension"] for job in planned if job.rule == "collect_scores"} == {CHANGED}
    assert {job.wildcards["arm"] for job in planned if job.rule == "evaluate_generate"} == {"aligned"}
    demo.run("--until", "omniscore")
    new = [job for job in demo.jobs() if job not in demo.done]
    assert Counter((job.rule, job.wildcards) for job in new) == Counter(
        [("score", "1_00000"), ("score", "1_00001"), ("collect_scores", f"1_{CHANGED}"), ("omniscore", "1")]
    )
