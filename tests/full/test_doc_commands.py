"""The commands of the pages, run as they are written, in a copy of the repository with a finished demo.

The demo is smaller than the real one. `make` and `snakemake` only plan: so targets, files and options are checked, and
no command takes minutes. Left out are lines that need a GPU, a cluster or a network, and say so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from itertools import islice
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.support.doc_pages import PAGES, read_blocks, save_files
from tests.support.every_stage import run_stages
from tests.support.labels import answer
from videodpo.cli import main
from videodpo.config.loading import merge, read_config
from videodpo.demo_world.captions import all_scenes
from videodpo.runtime.compat.snakemake import Job
from videodpo.storage.files import write_json
from videodpo.workflow.plan import write_plan
from videodpo.workflow.study import read_runs

ONLY_PLAN = """
make() { command make --dry-run "$@"; }
snakemake() { command snakemake --dry-run "$@"; }
"""
SMALLER = {
    "clip_storage": "tar",  # for docs/tables.md
    "prompts": {"num_train": 6, "num_heldout": 2},
    "generate": {"shards": 1, "sampling": {"num_steps": 2}},
    "reference": {"shards": 1},
    "schedule": {"num_steps": 3, "global_batch_size": 4, "micro_batch_size": 2},
    "train": {"lora": {"rank": 4}, "warmup_steps": 0},
    "train_runtime": {"trackers": []},
    "evaluate": {"bootstrap_resamples": 100},
}
FILES = ("Makefile", "pyproject.toml", "requirements.lock", "config.yaml", "Snakefile", "slurm")
FOLDERS = ("rules", "envs", "profiles", "presets", "studies", "demo", "src")
WITH_COMMANDS = [page for page in PAGES if any(block.language == "bash" for block in read_blocks(page))]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the environment, a finished demo, one arm of a study, and a reader's own files."""
    folder = tmp_path_factory.mktemp("pages") / "videodpo"
    folder.mkdir()
    for name in FILES:
        shutil.copy(ROOT / name, folder, follow_symlinks=False)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    (folder / ".venv").symlink_to(sys.prefix)
    preset = folder / "presets/demo.yaml"
    preset.write_text(yaml.safe_dump(merge(yaml.safe_load(preset.read_text()), SMALLER)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        finish_demo()
        finish_arm()
        finish_labels()
    shutil.copytree(folder / "results/demo", folder / "results/other")  # another run, for docs/report.md
    (folder / "prompts.txt").write_text("".join(f"{scene.caption}\n" for scene in islice(all_scenes(), 300)))
    with tarfile.open(folder / "results/demo/round1/videos/clips/shard-00000.tar") as clips:
        for name, member in zip(("a.mp4", "b.mp4"), clips, strict=False):
            (folder / name).write_bytes(clips.extractfile(member).read())
    return folder


def finish_labels() -> None:
    """Write files of votes as two raters would save them."""
    assert main(["label", "results/demo", "--out", "labels.html"]) == 0
    for rater in ("ann", "bob"):
        answer(Path("labels.html"), lambda item, _: "left" if item["left"] < item["right"] else "right", rater=rater)


def finish_demo() -> None:
    demo = ("--config", "config.yaml", "--preset", "presets/demo.yaml")
    run_stages(*demo)
    assert main(["doctor", *demo, "--out", "results/demo/round1/doctor.json"]) == 0
    Path(".snakemake/metadata").mkdir(parents=True)  # as after a run by Snakemake, as is the plan
    adapter = Job("train", "", ["results/demo/round1/adapter"], None, None, will_run=False)
    write_plan(Path("results/demo"), [adapter])


def finish_arm() -> None:
    """Let the demo be the first arm of the study that docs/sweeps.md shows."""
    save_files("docs/sweeps.md", Path())
    study = {"study": "studies/core.yaml"}
    plan = read_runs(read_config(Path("config.yaml"), [Path("presets/demo.yaml")]) | study).plan
    write_json(Path("results/core/study.json"), plan)
    arm = Path("results/core", plan["runs"][0]["folder"], "round1")
    shutil.copytree("results/demo/round1/evaluation", arm / "evaluation")


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_of_a_page_succeed(finished: Path, page: str, tmp_path: Path) -> None:
    folder = shutil.copytree(finished, tmp_path / "videodpo", symlinks=True)
    save_files(page, folder)
    path = os.pathsep.join(filter(None, [str(folder / "src"), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": path, "EDITOR": "cat", "OMP_NUM_THREADS": "1"}
    for block in read_blocks(page):
        if block.language == "bash":
            script = ONLY_PLAN + block.commands
            answer = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", script],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            assert answer.returncode == 0, block.commands + answer.stdout[-2000:] + answer.stderr[-2000:]
