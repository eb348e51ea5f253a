"""A read-only disk, folders without write permission, inputs without read permission: every stage says so in
one line, loses nothing, and later ends with the same result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.support.every_stage import (
    COMMANDS,
    command,
    comparable,
    config,
    made_by,
    only_root_mounts,
    own_disk,
    remount,
)
from videodpo.cli import main
from videodpo.tools.verify import verify

# Permissions do not apply to root, unless it drops its capabilities.
PLAIN_USER = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
ROUND = "small/round1"
INPUTS = {
    "prompts": "small/config/prompts.json",
    "generate": "small/prompts.parquet",
    "score": f"{ROUND}/videos/shard-00000.parquet",
    "collect_scores": f"{ROUND}/scores/by-clip/shard-00000.jsonl",
    "omniscore": f"{ROUND}/scores/temporal_flickering/shard-00000.parquet",
    "pairs": f"{ROUND}/omniscore.parquet",
    "visits": f"{ROUND}/pairs.parquet",
    "reference": f"{ROUND}/videos/latents/shard-00000.safetensors",
    "train": f"{ROUND}/reference/shard-00000.parquet",
    "sample base": "small/prompts.parquet",
    "sample aligned": f"{ROUND}/adapter/pytorch_lora_weights.safetensors",
    "score base": f"{ROUND}/evaluation/videos/base/shard-00000.parquet",
    "score aligned": f"{ROUND}/evaluation/videos/aligned/shard-00000.parquet",
    "appearance base": f"{ROUND}/evaluation/videos/base/shard-00000.parquet",
    "appearance aligned": f"{ROUND}/evaluation/videos/aligned/shard-00000.parquet",
    "evaluate": f"{ROUND}/evaluation/scores/base/temporal_flickering/shard-00000.parquet",
    "report": f"{ROUND}/evaluation/summary.json",
}
CALLS = """
import contextlib, io, json, sys
from videodpo.cli import main
answers = {}
for name, words in json.load(sys.stdin).items():
    with contextlib.redirect_stderr(io.StringIO()) as told:
        code = main(words)
    answers[name] = [code, told.getvalue()]
print(json.dumps(answers))
"""


@only_root_mounts
@pytest.mark.parametrize("stage", COMMANDS)
def test_a_stage_on_a_read_only_disk_says_so_and_resumes_later(stage, every_stage, random_model, tmp_path, capsys):
    with own_disk(tmp_path / "disk") as disk:
        results = disk / "results"
        config(random_model, results)
        made_by(stage, every_stage, results)
        before = comparable(results / "small")
        remount(disk, "ro")
        capsys.readouterr()
        assert main(command(stage, results)) == 1
        (said,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("videodpo ")]
        assert "Read-only file system" in said
        assert str(disk) in said
        remount(disk, "rw")
        assert comparable(results / "small") == before
        assert main(command(stage, results)) == 0
        assert_as(every_stage, results)


def test_a_stage_without_permissions_says_so_and_resumes_with_them(every_stage, random_model, tmp_path):
    """First a folder without write permission, then an input without read permission."""
    calls = {}
    for stage in COMMANDS:
        for fault in ("write", "read"):
            results = tmp_path / f"{fault} {stage}"
            config(random_model, results)
            made_by(stage, every_stage, results)
            calls[results.name] = command(stage, results)
            if fault == "read":
                (results / INPUTS[stage]).chmod(0o000)
            else:
                for folder in [path for path in results.rglob("*") if path.is_dir()]:
                    folder.chmod(0o555)
    answers = as_plain_user(calls)
    for name, (code, output) in answers.items():
        fault, _, stage = name.partition(" ")
        assert code == 1, (name, output)
        (said,) = [line for line in output.splitlines() if line.startswith("videodpo ")]
        assert "Permission denied" in said, (name, said)
        assert str(tmp_path / name / (INPUTS[stage] if fault == "read" else "")) in said, (name, said)
        assert not list((tmp_path / name).rglob("*.partial"))
    for name, words in calls.items():
        for path in (tmp_path / name).rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        assert main(words) == 0, name
        assert_as(every_stage, tmp_path / name)


def as_plain_user(calls: dict[str, list[str]]) -> dict[str, tuple[int, str]]:
    """Exit code and standard error of each command line."""
    done = subprocess.run(
        [*PLAIN_USER, sys.executable, "-c", CALLS],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
        check=True,
    )
    answers: dict[str, tuple[int, str]] = json.loads(done.stdout.splitlines()[-1])
    return answers


def assert_as(every_stage: Path, results: Path) -> None:
    """All files have the bytes of the undisturbed run, and pass `verify`."""
    expected, found = comparable(every_stage / "small"), comparable(results / "small")
    assert found == {name: digest for name, digest in expected.items() if name in found}
    assert verify(results / "small").exit_code == 0
