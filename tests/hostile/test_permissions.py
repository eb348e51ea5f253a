"""Folders that may not be written and files that may not be read: one line, and what was there stays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml

from tests.conftest import small_run
from tests.workspace import ROOT

# Rights mean nothing to root, unless it gives up its capabilities.
PLAIN_USER = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []


def videodpo(*arguments, prefix=()):
    command = [*prefix, sys.executable, "-m", "videodpo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)


@pytest.fixture
def config(random_model, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(small_run(random_model, tmp_path / "results")))
    return file


def test_a_read_only_result_folder_is_one_line_and_loses_nothing(config, tmp_path):
    assert videodpo("prompts", "--config", config).returncode == 0
    before = (tmp_path / "results/small/prompts.parquet").read_bytes()
    for folder in (tmp_path / "results/small/config", tmp_path / "results/small"):
        folder.chmod(0o555)
    answer = videodpo("prompts", "--config", config, prefix=PLAIN_USER)
    for folder in (tmp_path / "results/small", tmp_path / "results/small/config"):
        folder.chmod(0o755)
    assert answer.returncode == 1
    (line,) = answer.stderr.strip().splitlines()
    assert line.startswith("videodpo prompts: [Errno 13] Permission denied: ")
    assert f"{tmp_path}/results/small/config/" in line
    assert (tmp_path / "results/small/prompts.parquet").read_bytes() == before
    assert not list((tmp_path / "results").rglob("*.partial"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")
def test_a_disk_that_turned_read_only_is_one_line_and_can_be_verified(config, tmp_path):
    disk = tmp_path / "results"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=True)
    try:
        assert videodpo("prompts", "--config", config).returncode == 0
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        answer = videodpo("prompts", "--config", config)
        assert videodpo("verify", disk / "small").returncode == 0
    finally:
        subprocess.run(["umount", disk], check=True)
    assert answer.returncode == 1
    (line,) = answer.stderr.strip().splitlines()
    assert line.startswith(f"videodpo prompts: [Errno 30] Read-only file system: '{disk}/small/")


def test_a_configuration_that_may_not_be_read_is_one_line(config):
    config.chmod(0o000)
    answer = videodpo("check", "--config", config, prefix=PLAIN_USER)
    config.chmod(0o644)
    assert answer.returncode == 1
    (line,) = answer.stderr.strip().splitlines()
    assert "Permission denied" in line
    assert str(config) in line


def test_prompts_that_may_not_be_read_are_one_line(config, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a tram\n" * 9)
    prompts.chmod(0o000)
    source = [f"--set=prompts.source={{kind: text, path: {prompts}}}"]
    answer = videodpo("check", "--config", config, *source, prefix=PLAIN_USER)
    assert answer.returncode == 1
    (line,) = answer.stderr.strip().splitlines()
    assert "Permission denied" in line
    assert str(prompts) in line
