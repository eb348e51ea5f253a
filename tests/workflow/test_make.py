"""`make setup` in folders whose names have characters special to a shell. uv is pretended, make is real."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

UV = """#!/bin/sh
printf '%s\\n' "$1 $VIRTUAL_ENV" >> calls
mkdir -p .venv
"""


@pytest.mark.parametrize("name", ["my projects", "it's", 'a "b" $HOME & c; d'])
def test_setup_installs_into_a_folder_with_any_name(name: str, tmp_path: Path) -> None:
    folder = tmp_path / name / "checkout"
    (folder / ".uv/bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    for file in ("requirements.lock", "pyproject.toml"):
        (folder / file).touch()
    (folder / ".uv" / re.findall(r"UV_VERSION := (\S+)", (ROOT / "Makefile").read_text())[0]).touch()
    (folder / ".uv/bin/uv").write_text(UV)
    (folder / ".uv/bin/uv").chmod(0o755)
    answer = subprocess.run(["make", "setup"], cwd=folder, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert f"pip {folder}/.venv" in (folder / "calls").read_text().splitlines()
