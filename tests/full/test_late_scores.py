"""A score that failed at first and succeeds later reaches the tables in the same call of Snakemake."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import small_run
from tests.support.workspace import install_plugin, make_workspace, snakemake, without_default_scorers, write_overlay
from videodpo.storage.tables import read_table

FAILS_ONCE = '''
from pathlib import Path

from videodpo.scorers.base import Scorer
from videodpo.scorers.shared.backbone import Unavailable


class Brightness(Scorer):
    """Mean of all pixels; no score for one clip, for a reason that passes, while there is a file `fail_once`."""

    version = "1"

    def __init__(self, options, device):
        pass

    def score(self, clip):
        if Path("fail_once").exists():
            Path("fail_once").unlink()
            raise Unavailable("out of memory")
        return float(clip.frames_THWC.mean()) / 255
'''
ROUND = Path("results/small/round1")
BRIGHTNESS = {"pillar": "quality", "min": 0.0, "max": 1.0}


@pytest.mark.parametrize("later", ["another dimension", "by hand"])
def test_a_later_score_replaces_the_failed_one(later: str, random_model: Path, tmp_path: Path) -> None:
    overlay = small_run(random_model, Path("results"), max_failed_fraction=0.5)
    overlay = without_default_scorers(overlay | {"dimensions": {"brightness": BRIGHTNESS}})
    folder = make_workspace(tmp_path / "run", overlay)
    plugins = install_plugin(folder / "plugins")
    (plugins / "brightness.py").write_text(FAILS_ONCE)
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, [str(plugins), os.environ.get("PYTHONPATH")]))}

    def run() -> None:
        call = ("--cores", "2", "--configfile", "config.yaml", "overlay.yaml", "--", str(ROUND / "omniscore.parquet"))
        answer = snakemake(folder, *call, **environment)
        assert answer.returncode == 0, answer.stderr

    def failed() -> int:
        scores = read_table(folder / ROUND / "scores/brightness/shard-00000.parquet")
        return int((scores["status"] == "failed").sum())

    (folder / "fail_once").touch()
    run()
    assert failed() == 1
    if later == "another dimension":
        overlay["dimensions"]["temporal_flickering"] = {}  # reported only: the OmniScore has no other reason to change
        write_overlay(folder, overlay)
    else:
        command = ["videodpo", "score", "--config", "results/small/config/score/brightness.json"]
        subprocess.run(command, cwd=folder, env=os.environ | environment, check=True)
    run()
    assert failed() == 0
    assert len(read_table(folder / ROUND / "omniscore.parquet")) == 18
