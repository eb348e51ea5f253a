"""Start of a run: without an activated environment, with settings of any length, and with a readable dry run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import small_run
from tests.support.workspace import make_workspace, snakemake, without_default_scorers

CALL = ("--cores", "1", "--configfile", "config.yaml", "overlay.yaml")


@pytest.fixture
def workspace(random_model: Path, tmp_path: Path) -> Path:
    """A run on a model folder with 2000 more files, so that its settings exceed the length of a command line."""
    model = shutil.copytree(random_model, tmp_path / "model")
    (model / "extra").mkdir()
    for number in range(2000):
        (model / "extra" / f"{number:0100d}.json").write_text("{}")
    return make_workspace(tmp_path / "run", without_default_scorers(small_run(model, Path("results"))))


def test_settings_may_be_longer_than_a_command_line(workspace: Path) -> None:
    answer = snakemake(workspace, *CALL, "--", "results/small/config/generate.json")
    assert answer.returncode == 0, answer.stderr
    text = (workspace / "results/small/config/generate.json").read_text()
    assert len(text) > 2**17
    assert len(json.loads(text)["weights"]) > 2000


def test_a_dry_run_prints_no_settings(workspace: Path) -> None:
    answer = snakemake(workspace, "--dry-run", "--printshellcmds", *CALL)
    assert answer.returncode == 0, answer.stderr
    blocks = [block for block in answer.stdout.split("\n\n") if "rule snapshot:" in block]
    assert len(blocks) > 5
    assert max(map(len, blocks)) < 1500
    assert all("reason: " in block for block in blocks)


def test_the_environment_need_not_be_activated(workspace: Path) -> None:
    program = Path(sys.executable).with_name("snakemake")
    environment = os.environ | {"PATH": os.defpath}
    target = "results/small/prompts.parquet"
    answer = subprocess.run(
        [program, *CALL, "--", target], cwd=workspace, env=environment, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert (workspace / target).exists()
