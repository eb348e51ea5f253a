"""The example of a scorer in its own package: built, installed next to videodpo, and used."""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT, small_run
from videodpo.runtime import registry
from videodpo.scorers.base import Clip
from videodpo.storage.video import read_mp4, write_mp4

EXAMPLE = ROOT / "docs" / "example-plugin"
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
GREY, RED, BLUE, SAND, TEAL = (128, 128, 128), (255, 0, 0), (0, 0, 255), (200, 170, 120), (30, 130, 140)
# Red has the opponents (255, 127.5) and blue (0, -255): deviation is half their difference, mean half their sum.
RED_BESIDE_BLUE = math.hypot(127.5, 191.25) + 0.3 * math.hypot(127.5, -63.75)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the unpacked wheel of the example, as an installer leaves it.

    Built by the package's own build backend, on a copy: it writes next to the sources. Without pip, which the
    environment of `make setup` does not have.
    """
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    (folder / "wheels").mkdir()
    build = [sys.executable, "-c", BUILD, str(folder / "wheels")]
    answer = subprocess.run(build, cwd=folder / "source", capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (wheel,) = (folder / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three frames that differ in colours."""
    frames = [halves(SAND, TEAL), halves(GREY, RED), halves(TEAL, BLUE)]
    write_mp4(tmp_path / "clip.mp4", np.stack(frames), 8.0, crf=0)
    return tmp_path / "clip.mp4"


def halves(left: tuple[int, ...], right: tuple[int, ...]) -> np.ndarray:
    """A frame, uint8 [32, 32, 3]."""
    return np.repeat(np.array([[left, right]], np.uint8), 32, axis=0).repeat(16, axis=1)


def colorfulness_of_pixels(frame: np.ndarray) -> float:
    """The metric of a frame, pixel by pixel in Python floats."""
    pixels = frame.reshape(-1, 3).tolist()
    opponents = [r - g for r, g, _ in pixels], [(r + g) / 2 - b for r, g, b in pixels]
    sigma = math.hypot(*map(statistics.pstdev, opponents))
    return sigma + 0.3 * math.hypot(*map(statistics.fmean, opponents))


def videodpo(*arguments: str | Path, plugins: Path) -> subprocess.CompletedProcess[str]:
    """The command line in an environment with a folder of plug-ins."""
    path = filter(None, [str(plugins), os.environ.get("PYTHONPATH")])
    return subprocess.run(
        [sys.executable, "-m", "videodpo", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def check(installed, config_file, tmp_path):
    """Function: `videodpo check` of a run with colorfulness in its OmniScore, with the given options."""

    def run(**options: Any) -> subprocess.CompletedProcess[str]:
        raw = small_run(ROOT / "demo" / "text_to_video", tmp_path / "results")
        raw["dimensions"]["colorfulness"] = {"options": options, "pillar": "quality", "min": 0.0, "max": 109.0}
        return videodpo("check", "--config", config_file(raw), plugins=installed)

    return run


def test_a_clip_is_scored_by_the_installed_plugin(installed, clip):
    answer = videodpo("score-files", clip, "--dimension", "colorfulness", "--json", plugins=installed)
    assert answer.returncode == 0, answer.stderr
    frames, _ = read_mp4(clip)
    expected = pytest.approx(statistics.fmean(map(colorfulness_of_pixels, frames)), rel=1e-12)
    assert json.loads(answer.stdout) == {"file": str(clip), "dimension": "colorfulness", "value": expected}


@pytest.fixture
def kind(installed, monkeypatch) -> Any:
    """The class of the scorer."""
    monkeypatch.syspath_prepend(str(installed))
    return registry.load("videodpo.scorers", "colorfulness")


def test_red_next_to_blue_has_the_value_of_the_formula(kind):
    value = kind(kind.Options(), "cpu").score(Clip(halves(RED, BLUE)[None], 8.0, ""))
    assert value == pytest.approx(RED_BESIDE_BLUE, rel=1e-12)


def test_every_2_leaves_every_second_frame_out(kind):
    frames = np.stack([halves(RED, BLUE), halves(GREY, GREY), halves(RED, BLUE), halves(SAND, TEAL)])
    value = kind(kind.Options(every=2), "cpu").score(Clip(frames, 8.0, ""))
    assert value == pytest.approx(RED_BESIDE_BLUE, rel=1e-12)


def test_a_configuration_may_name_the_plugin_with_its_options(check):
    answer = check(every=2)
    assert answer.returncode == 0, answer.stderr
    assert "valid" in answer.stdout


def test_extending_page_shows_the_entry_point_of_the_example():
    entry_point = (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8").split("\n\n")[-1].strip().splitlines()
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    assert "\n".join(entry_point) in page
