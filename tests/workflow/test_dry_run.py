"""Snakemake's plan, and the imports of the Snakefile."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.support.workspace import jobs_of, make_workspace, plan
from videodpo.config.loading import read_config
from videodpo.storage.video import write_mp4
from videodpo.workflow.run import Workflow


@pytest.fixture(scope="module")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a dry run of the full run on SLURM prints about each job, without weights or network."""
    folder = make_workspace(tmp_path_factory.mktemp("full"), {})
    (folder / "empty").mkdir()
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "empty")}
    return plan(folder, "--profile", "slurm", "--printshellcmds", **offline)


def test_slurm_lists_the_full_run_without_weights_or_network_in_fewer_than_3000_jobs(full_run):
    count = Counter(job.rule for job in jobs_of(full_run))
    assert (count["generate"], count["collect_scores"], count["train"]) == (200, 8, 1)
    assert count.total() < 3000


def test_what_is_printed_about_a_job_fits_on_a_screen(full_run):
    """A job of the full run has up to 600 inputs, and as many may be the reason why it runs."""
    assert max(map(len, full_run)) < 2000
    reasons = [re.search(r"^ +reason: (.*)$", block, re.MULTILINE) for block in full_run]
    assert all(reason and 20 < len(reason[1]) < 800 for reason in reasons)
    (listing,) = (block for block in full_run if block.startswith("list_videos"))
    assert listing.count("and 597 other files") == 2  # in its input, and in its reason


def test_the_snakefile_imports_nothing_heavy():
    """The driver and every SLURM job import it; scorers' modules are imported for their options and versions."""
    code = """
import sys
from pathlib import Path
from videodpo.runtime import registry
from videodpo.storage.video import write_mp4
from videodpo.workflow.run import Workflow
from videodpo.config.loading import read_config
for name in registry.names("videodpo.scorers"):
    registry.load("videodpo.scorers", name)
assert Workflow(read_config(Path("config.yaml"))).snapshots
print(sorted({"torch", "diffusers", "transformers", "open_clip", "datasets", "pandas"} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_the_evaluation_needs_the_first_rounds_scores_of_the_base_model(tmp_path):
    """A dimension outside the OmniScore is not in omniscore.parquet; own clips are not the base model's."""
    raw = read_config(ROOT / "config.yaml")
    raw["dimensions"]["dynamic_degree"] |= {"pillar": None}
    assert Workflow(raw).headroom_tables == ["omniscore.parquet", "scores/dynamic_degree/shards.json"]
    write_mp4(tmp_path / "clip.mp4", np.zeros((2, 16, 16, 3), np.uint8), 8.0)
    (tmp_path / "clips.csv").write_text("prompt,path\na red ring,clip.mp4\n")
    raw["prompts"] |= {"num_train": 1, "num_heldout": 0}
    raw["prompts"]["source"] |= {"kind": "clips", "path": str(tmp_path / "clips.csv")}
    assert Workflow(raw).headroom_tables == []
