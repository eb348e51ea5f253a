"""What Snakemake would run again after a change, asked of Snakemake itself on a run that is really finished."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, small_run
from tests.workspace import Job, dry_run, make_workspace, snakemake, write_overlay

SCORES = ("temporal_flickering", "imaging_quality_sharpness")
FREEZE = "freeze"


class Finished:
    """A finished run in its own folder; its overlay can be changed and dry-run, which leaves it finished."""

    def __init__(self, folder: Path, overlay: dict[str, Any]) -> None:
        self.folder = make_workspace(folder, overlay)
        self.overlay = overlay
        answer = snakemake(self.folder, "--cores", "2", "--configfile", "overlay.yaml")
        assert answer.returncode == 0, answer.stdout + answer.stderr

    def jobs_after(self, **changes: Any) -> list[Job]:
        """Jobs that a call would run with dotted keys (`a__b`) of the overlay changed."""
        overlay = copy.deepcopy(self.overlay)
        for dotted, value in changes.items():
            *above, name = dotted.split("__")
            section = overlay
            for part in above:
                section = section.setdefault(part, {})
            section[name] = value
        write_overlay(self.folder, overlay)
        return self.jobs()

    def jobs(self) -> list[Job]:
        return dry_run(self.folder, "--configfile", "overlay.yaml")


@pytest.fixture(scope="session")
def session_run(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Four prompts on two shards, through every rule."""
    default = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    overlay = small_run(random_model, Path("results"))
    overlay["prompts"] |= {"num_train": 4, "num_heldout": 2}
    overlay["prompts"]["source"] = {"kind": "world", "path": None}
    overlay["generate"]["shards"] = overlay["reference"]["shards"] = 2
    for name in set(default["scores"]) - set(SCORES):
        overlay["scores"][name] = overlay["omniscore"]["dimensions"][name] = None
    return Finished(tmp_path_factory.mktemp("workspace"), overlay)


@pytest.fixture
def finished(session_run: Finished) -> Finished:
    """The finished run with its own settings back in place."""
    write_overlay(session_run.folder, session_run.overlay)
    (session_run.folder / "config.yaml").write_bytes((ROOT / "config.yaml").read_bytes())
    return session_run


def rules(jobs: list[Job]) -> set[str]:
    return {job.rule for job in jobs} - {"all"}


def frozen(jobs: list[Job]) -> set[str]:
    return {job.wildcards["frozen"] for job in jobs if job.rule == FREEZE}


def arms(jobs: list[Job], rule: str) -> set[str]:
    return {job.wildcards["arm"] for job in jobs if job.rule == rule}


AFTER_PAIRS = {"reference", "train", "evaluate_generate", "evaluate_score", "evaluate", "report"}


def test_a_run_leaves_every_published_result(finished):
    run = finished.folder / "results" / "small"
    expected = ["prompts.parquet", "config/pairs.json", "config/score/temporal_flickering.json"]
    in_round = ["videos/shard-00001.parquet", "videos/latents/shard-00000.safetensors", "omniscore.parquet"]
    in_round += ["scores/temporal_flickering/shard-00000.parquet", "pairs.parquet", "pairs_rejected.parquet"]
    in_round += ["reference/shard-00001.parquet", "adapter/pytorch_lora_weights.safetensors", "train_log.parquet"]
    in_round += ["evaluation/prompts.parquet", "evaluation/summary.json", "report/index.html"]
    assert [name for name in expected + [f"round1/{name}" for name in in_round] if not (run / name).is_file()] == []


def test_a_second_call_does_nothing(finished):
    assert finished.jobs() == []


def test_a_scorers_new_option_reruns_that_dimension_in_all_shards_and_what_follows(finished):
    # The scorers without weights take no options, so the run's failure limit stands in for one: it is in every
    # dimension's settings. A dimension of its own is the next test.
    ...
