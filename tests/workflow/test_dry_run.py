"""What Snakemake plans, and what it imports to do so."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

from tests.conftest import ROOT
from tests.support.workspace import dry_run, make_workspace


def test_slurm_lists_the_full_run_without_weights_or_network_in_fewer_than_3000_jobs(tmp_path):
    make_workspace(tmp_path, {})
    (tmp_path / "empty").mkdir()
    jobs = dry_run(tmp_path, "--profile", "slurm", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "empty"))
    count = Counter(job.rule for job in jobs)
    assert (count["generate"], count["collect_scores"], count["train"]) == (200, 8, 1)
    assert len(jobs) < 3000


def test_what_the_snakefile_imports_is_light():
    """Driver and every SLURM job pay for it; the scorers' modules are imported for their options and versions."""
    code = """
import sys
from pathlib import Path
from videodpo.runtime import registry
from videodpo.workflow.run import Workflow
from videodpo.config.loading import read_config
for name in registry.names("videodpo.scorers"):
    registry.load("videodpo.scorers", name)
assert Workflow(read_config(Path("config.yaml"))).snapshots
print(sorted({"torch", "diffusers", "transformers", "open_clip", "datasets", "pandas"} & set(sys.modules)))
"""
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
