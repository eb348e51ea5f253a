"""A folder for calls of the real Snakemake, and the jobs that a dry run lists."""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.conftest import ROOT

SIGNS = 'it\'s a "new" $(touch owned) $HOME & ünïcode; folder'  # characters that a shell or Snakemake might interpret
FLICKER, BRIGHTNESS = "temporal_flickering", "brightness"
LINKED = ("Snakefile", "rules", "envs", "profiles", "slurm")

PLUGIN = '''
from videodpo.scorers.base import Scorer
from videodpo.config.section import Real


class Brightness(Scorer):
    """Mean of all pixels, times an option: the bundled scorers without weights have no options to change."""

    version = "1"

    class Options(Scorer.Options):
        gain: Real = 1.0

    def __init__(self, options, device):
        self._gain = options.gain

    def score(self, clip):
        return self._gain * float(clip.frames_THWC.mean()) / 255
'''


class Job(NamedTuple):
    """One job of a dry run: its rule and its wildcards."""

    rule: str
    wildcards: dict[str, str]


def make_workspace(folder: Path, overlay: dict[str, Any]) -> Path:
    """Make a folder with links to the workflow, a copy of the default config.yaml, and `overlay` as overlay.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    shutil.copy(ROOT / "config.yaml", folder)
    write_overlay(folder, overlay)
    return folder


def without_default_scorers(overlay: dict[str, Any]) -> dict[str, Any]:
    """Set every scorer of the default config.yaml to null, unless the overlay names it."""
    default = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    dimensions = overlay["dimensions"]
    dimensions |= {name: dimensions.get(name) for name in default["dimensions"]}
    return overlay


def write_overlay(folder: Path, overlay: dict[str, Any]) -> None:
    (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")


def snakemake(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["snakemake", *arguments],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def dry_run(folder: Path, *arguments: str, **environment: str) -> list[Job]:
    """Jobs that Snakemake lists, in its order."""
    return jobs_of(plan(folder, *arguments, **environment))


def plan(folder: Path, *arguments: str, **environment: str) -> list[str]:
    """What a dry run prints about each job, starting with the name of its rule."""
    answer = snakemake(folder, "--dry-run", *arguments, **environment)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    listed = answer.stdout.rpartition("\nJob stats:\n")[0]  # printed before the jobs and after them
    return [block.partition("\n[")[0] for block in re.split(r"^(?:local)?rule ", listed, flags=re.MULTILINE)[1:]]


def jobs_of(blocks: list[str]) -> list[Job]:
    jobs = []
    for block in blocks:
        pairs = re.search(r"^ +wildcards: (.*)$", block, flags=re.MULTILINE)
        wildcards = dict(pair.split("=", 1) for pair in pairs[1].split(", ")) if pairs else {}
        jobs.append(Job(block.partition(":")[0], wildcards))
    return jobs


def last_try(log: Path) -> str:
    """Lines of a log that its last job wrote."""
    return log.read_text(encoding="utf-8").rpartition(" started on ")[2]


class Finished:
    """A finished run in its own folder; dry runs with a changed overlay leave it finished."""

    def __init__(self, folder: Path, overlay: dict[str, Any]) -> None:
        self.folder = make_workspace(folder, overlay)
        self.overlay = overlay
        path = [str(install_plugin(folder / "plugins")), os.environ.get("PYTHONPATH")]
        self.environment = {"PYTHONPATH": os.pathsep.join(filter(None, path))}
        answer = snakemake(self.folder, "--cores", "2", "--configfile", "overlay.yaml", **self.environment)
        assert answer.returncode == 0, answer.stdout + answer.stderr

    def jobs_after(self, key: str, value: Any) -> list[Job]:
        """Jobs that a call would run with one dotted key of the overlay changed."""
        return jobs_of(self.plan_after(key, value))

    def plan_after(self, key: str, value: Any) -> list[str]:
        """What a dry run prints about these jobs."""
        overlay = copy.deepcopy(self.overlay)
        *above, name = key.split(".")
        section = overlay
        for part in above:
            section = section.setdefault(part, {})
        section[name] = value
        write_overlay(self.folder, overlay)
        return plan(self.folder, "--configfile", "overlay.yaml", **self.environment)

    def jobs(self) -> list[Job]:
        return dry_run(self.folder, "--configfile", "overlay.yaml", **self.environment)


def install_plugin(folder: Path) -> Path:
    """Write the scorer `brightness` as an installed package; return the folder to put on the path."""
    info = folder / "brightness-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "brightness.py").write_text(PLUGIN, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brightness\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[videodpo.scorers]\nbrightness = brightness:Brightness\n", encoding="utf-8")
    return folder
