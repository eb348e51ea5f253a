"""Sites whose SLURM has no accounting or no --gpus. The commands are pretended; Snakemake and its plugin are real."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import pretend_slurm
from tests.support.workspace import make_workspace, snakemake

RUN = {
    "run": "r",
    "prompts": {"source": {"kind": "demo_world"}, "num_train": 60, "num_heldout": 0},
    "schedule": {"validation": {"num_prompts": 0}},
}
PROMPTS = "results/r/prompts.parquet"


@pytest.fixture
def submit(tmp_path):
    """Function that runs the stage prompts as a SLURM job; arguments for Snakemake, environment for the site."""

    def call(*arguments: str, **site: str) -> subprocess.CompletedProcess[str]:
        folder = make_workspace(tmp_path / "run", RUN)
        commands = pretend_slurm.install(tmp_path / "slurm")
        environment = {"PRETEND_SLURM": str(commands), "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}", **site}
        call = ("--profile", "slurm", "--slurm-init-seconds-before-status-checks", "1", "--retries", "0")
        files = ("--configfile", "config.yaml", "overlay.yaml")
        return snakemake(folder, *call, *files, *arguments, "--", PROMPTS, **environment)

    return call


@pytest.mark.parametrize("sacct", ["disabled", "disabled, exit 0"])
def test_without_accounting_job_states_are_queried_from_squeue(sacct: str, submit, tmp_path: Path) -> None:
    answer = submit(SACCT=sacct)
    assert answer.returncode == 0, answer.stderr
    assert "sacct fails (Slurm accounting storage is disabled)" in answer.stderr
    assert (tmp_path / "run" / PROMPTS).exists()


def test_a_site_without_states_of_finished_jobs_is_refused_before_the_first_job(submit, tmp_path: Path) -> None:
    answer = submit(SACCT="disabled", MIN_JOB_AGE="2")
    assert answer.returncode != 0
    assert (
        "the state of finished jobs cannot be queried: sacct fails (Slurm accounting storage is disabled)"
        in answer.stderr
    )
    assert "Traceback" not in answer.stderr
    assert not (tmp_path / "slurm" / "submitted").exists()


def test_jobs_are_still_tracked_after_sacct_fails_once(submit, tmp_path: Path) -> None:
    """The first call of sacct is the check at the start; the second one fails, all others work."""
    answer = submit(SACCT="fails second")
    assert answer.returncode == 0, answer.stderr
    assert "Job states are unknown" in answer.stderr


def test_gres_in_place_of_gpus_as_documented(submit, tmp_path: Path) -> None:
    answer = submit("--set-resources", "prompts:gpu=0", "prompts:gres='gpu:1'", NO_GPUS="1")
    assert answer.returncode == 0, answer.stderr
    assert "--gres=gpu:1" in (tmp_path / "slurm" / "submitted").read_text()
