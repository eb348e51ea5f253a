"""Jobs find the command of the environment that runs Snakemake."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from videodpo.config import ConfigError
from videodpo.workflow.run import path_with_command

BIN = str(Path(sys.executable).parent)


@pytest.mark.parametrize("path", ["/usr/bin", f"/other/environment/bin{os.pathsep}{BIN}"])
def test_this_environments_command_comes_first(path):
    assert path_with_command(path) == f"{BIN}{os.pathsep}{path}"
    assert path_with_command(path_with_command(path)) == path_with_command(path)


def test_an_environment_without_the_command_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("sysconfig.get_path", lambda name: str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"no command videodpo in .*scripts.*make setup, then \.venv/bin/snakemake"):
        path_with_command("/usr/bin")
