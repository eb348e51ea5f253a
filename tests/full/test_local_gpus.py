"""One machine with several pretended GPUs: the local profile runs as many jobs, each on its own GPU."""

from __future__ import annotations

import re
from pathlib import Path

from tests.conftest import small_run
from tests.support.pretend_gpus import pretend_gpus
from tests.support.workspace import make_workspace, snakemake, without_default_scorers


def test_each_job_of_the_local_profile_has_its_own_gpu(random_model: Path, tmp_path: Path) -> None:
    overlay = small_run(random_model, Path("results"), device="auto", generate={"shards": 3, "videos_per_prompt": 4})
    folder = make_workspace(tmp_path / "run", without_default_scorers(overlay))
    profile = ("--profile", "profiles/local", "--cores", "8", "--resources", "gpu=8")
    target = ("--configfile", "config.yaml", "overlay.yaml", "--", "results/small/round1/videos/shards.json")
    answer = snakemake(folder, *profile, *target, **pretend_gpus(tmp_path / "machine", 8))
    assert answer.returncode == 0, answer.stderr
    logs = [path.read_text() for path in (folder / "results/small/round1/logs/generate").rglob("*.log")]
    reserved = [re.findall(r"reserved GPU (\d) of 0, 1, 2, 3, 4, 5, 6, 7", log) for log in logs]
    assert sorted(reserved) == [["0"], ["1"], ["2"]]
