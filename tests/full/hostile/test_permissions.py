"""One error line for an unreadable configuration or prompt file. For stages, see tests/full/test_read_only.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml

from tests.conftest import small_run
from tests.support.workspace import ROOT

# Permissions do not apply to root, unless it drops its capabilities.
PLAIN_USER = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []


def videodpo(*arguments, prefix=()):
    command = [*prefix, sys.executable, "-m", "videodpo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)


@pytest.fixture
def config(random_model, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(small_run(random_model, tmp_path / "results")))
    return file


def test_an_unreadable_configuration_is_one_line(config):
    config.chmod(0o000)
    answer = videodpo("check", "--config", config, prefix=PLAIN_USER)
    config.chmod(0o644)
    assert answer.returncode == 1
    (line,) = answer.stderr.strip().splitlines()
    assert "Permission denied" in line
    assert str(config) in line


def test_unreadable_prompts_are_one_line(config, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a tram\n" * 9)
    prompts.chmod(0o000)
    source = [f"--set=prompts.source={{kind: text, path: {prompts}}}"]
    answer = videodpo("check", "--config", config, *source, prefix=PLAIN_USER)
    assert answer.returncode == 1
    (line,) = answer.stderr.strip().splitlines()
    assert "Permission denied" in line
    assert str(prompts) in line
