"""A full disk stops every stage with one line and nothing half written; with more room it goes on to the same end.

The disk is a small tmpfs that grows: the kernel refuses the writes, at another file with every size.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Stages, small_run
from videodpo.cli import main
from videodpo.files import sha256_of
from videodpo.verify import verify
from videodpo.video import write_mp4
from videodpo.world.captions import random_scene
from videodpo.world.render import render

SIZES = int(os.environ.get("VIDEODPO_FULL_DISKS", "3"))
EXACT = (".parquet", ".safetensors", ".mp4", ".json", ".html", ".svg")


class SmallDisk:
    """A tmpfs of as much room as it is given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", folder], check=True)

    def leave(self, num_bytes: int) -> None:
        """Shrink or grow it until that much is free."""
        disk = os.statvfs(self.folder)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        subprocess.run(["mount", "-o", f"remount,size={used + num_bytes}", self.folder], check=True)


@pytest.fixture
def disk(tmp_path) -> Iterator[SmallDisk]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a disk that is full")
    small = SmallDisk(tmp_path / "disk")
    try:
        yield small
    finally:
        subprocess.run(["umount", "--lazy", small.folder], check=True)


@pytest.fixture(scope="module")
def whole(random_model, tmp_path_factory) -> Path:
    """The results folder of a run that nothing disturbed, made by the same commands."""
    results = tmp_path_factory.mktemp("whole") / "results"
    config(random_model, results)
    for stage in COMMANDS:
        assert main(command(stage, results)) == 0, stage
    return results


def config(model: Path, results: Path, **changes: Any) -> Stages:
    """Settings of every stage, frozen; `changes` as of `small_run`."""
    trainer = {"gradient_checkpointing": "off", "checkpoint_steps": 1, "trackers": ["tensorboard"]}
    run = Stages(small_run(model, results, **{"prompts": {"num_train": 3}, "trainer": trainer} | changes))
    names = [
        "prompts",
        "generate",
        "omniscore",
        "pairs",
        "reference",
        "train",
        "evaluate_generate",
        "evaluate",
        "report",
    ]
    for name in names + [f"score/{dimension}" for dimension in run.config.scores]:
        run.frozen(name)
    return run


_SCORERS = ["score/temporal_flickering", "score/imaging_quality_sharpness"]
COMMANDS = {
    "prompts": ["prompts", "--config", "prompts"],
    "generate": ["generate", "--config", "generate"],
    "measure": ["measure", "--config", *_SCORERS],
    "score": ["score", "--config", *_SCORERS],
    "omniscore": ["omniscore", "--config", "omniscore"],
    "pairs": ["pairs", "--config", "pairs"],
    "reference": ["reference", "--config", "reference"],
    "train": ["train", "--config", "train"],
    "sample base": ["generate", "--config", "evaluate_generate", "--arm", "base"],
    "sample aligned": ["generate", "--config", "evaluate_generate", "--arm", "aligned"],
    "score base": ["score", "--config", *_SCORERS, "--arm", "base"],
    "score aligned": ["score", "--config", *_SCORERS, "--arm", "aligned"],
    "evaluate": ["evaluate", "--config", "evaluate"],
    "report": ["report", "--config", "report"],
}


def command(stage: str, results: Path) -> list[str]:
    """With the paths of its frozen settings."""
    folder = results / "small" / "config"
    words = COMMANDS[stage]
    last = words.index("--arm") if "--arm" in words else len(words)
    return [*words[:2], *(str(folder / f"{name}.json") for name in words[2:last]), *words[last:]]


def made_by(stage: str, whole: Path, results: Path) -> None:
    """What all the stages before this one have made, under this results folder."""
    stages = list(COMMANDS)
    order = {name: number for number, name in enumerate(stages)}
    for path in sorted((whole / "small").rglob("*")):
        name = path.relative_to(whole)
        if path.is_file() and order.get(maker(name), len(order)) < order[stage]:
            (results / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, results / name)


def maker(name: Path) -> str:
    """The stage that wrote a file of the run."""
    inside = name.parts[1:]
    if inside[0] == "config":
        return "config"
    if inside[0].lstrip(".").startswith(("prompts", "clips")):
        return "prompts"
    inside = inside[1:]
    if inside[0] == "evaluation":
        if inside[1] in ("videos", "scores"):
            return f"{'sample' if inside[1] == 'videos' else 'score'} {inside[2]}"
        return "evaluate"
    if inside[0] == "scores":
        return "measure" if inside[1] == "by-clip" or ".json" in inside[1] else "score"
    first = inside[0].strip(".").partition(".")[0]
    places = {"videos": "generate", "adapter": "train", "state": "train", "tracking": "train", "train_log": "train"}
    places |= {"pairs_rejected": "pairs"}
    return places.get(first, first)


def comparable(run: Path) -> dict[str, str]:
    """Digest of every file whose bytes follow from the settings: all but clocks, and memory, of the training."""
    files = [path for path in run.rglob("*") if path.is_file() and path.suffix in EXACT]
    skipped = ("config", "state", "tracking")
    return {
        path.relative_to(run).as_posix(): sha256_of(path)
        for path in files
        if not any(part in skipped for part in path.relative_to(run).parts) and path.name != "train_log.parquet"
    }


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_stage_on_a_full_disk_says_so_and_goes_on_when_there_is_room(
    stage, whole, random_model, disk, capsys, figures
):
    results = disk.folder / "results"
    config(random_model, results)
    made_by(stage, whole, results)
    figures(f"full disk, {stage}", fill(disk, command(stage, results), used_by(stage, whole), capsys))
    expected = comparable(whole / "small")
    found = comparable(results / "small")
    assert found == {name: digest for name, digest in expected.items() if name in found}
    own = {name for name in expected if maker(Path("small") / name) == stage}
    assert own <= found.keys()
    assert own or stage == "train"


@pytest.mark.parametrize("other", ["clips in a tar", "clips of one's own"])
def test_so_does_another_way_to_get_clips(other, random_model, disk, tmp_path, capsys, figures):
    changes: dict[str, Any] = {"clip_storage": "tar"}
    if other == "clips of one's own":
        source = {"kind": "clips", "path": str(own_clips(tmp_path / "own"))}
        changes = {"prompts": {"source": source, "num_train": None, "num_heldout": 1}}
    undisturbed, results = tmp_path / "results", disk.folder / "results"
    for folder in (undisturbed, results):
        config(random_model, folder, **changes)
        assert main(command("prompts", folder)) == 0
    assert main(command("generate", undisturbed)) == 0
    figures(f"full disk, {other}", fill(disk, command("generate", results), used_by("generate", undisturbed), capsys))
    assert comparable(results / "small") == comparable(undisturbed / "small")


@pytest.mark.parametrize("kind", ["freeze", "list-shards", "doctor"])
def test_so_does_what_writes_one_file(kind, whole, disk, tmp_path, capsys, figures):
    undisturbed, results = tmp_path / "results", disk.folder / "results"
    for folder in (undisturbed, results):
        shutil.copytree(whole, folder)
    pairs = Path("small/config/pairs.json")
    arguments, file = {
        "freeze": (lambda _: ["--text", (whole / pairs).read_text()], pairs),
        "list-shards": (lambda _: [], Path("small/round1/videos/shards.json")),
        "doctor": (lambda folder: ["--config", str(folder / "small/config/train.json")], Path("small/doctor.json")),
    }[kind]

    def words(folder: Path) -> list[str]:
        out = ["--out", str(folder / file)] if kind == "doctor" else [str(folder / file)]
        return [kind, *arguments(folder), *out]

    (results / file).unlink(missing_ok=True)
    (undisturbed / file).unlink(missing_ok=True)
    assert main(words(undisturbed)) == 0
    figures(f"full disk, {kind}", fill(disk, words(results), 0, capsys))
    assert (results / file).read_bytes() == (undisturbed / file).read_bytes()


def fill(disk: SmallDisk, words: list[str], needed: int, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """Call a command with ever more room, up to what it needs; it is told each time, and ends once there is enough.

    Args:
        words: of the command line. needed: bytes that it writes.
    """
    results, stopped = disk.folder / "results", 0
    for number in range(SIZES):  # from no room at all to nearly enough
        disk.leave((4096 if needed else 0) + needed * number // (SIZES + 1))
        capsys.readouterr()
        code = main(words)
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("videodpo ")]
        if code == 0:
            assert number, "the stage needed no room"
            break
        stopped += 1
        assert code == 1
        assert len(said) == 1
        assert "no space left on" in said[0]
        assert "start again" in said[0]
        left = [path for path in results.rglob("*") if path.name.endswith((".partial", ".scratch"))]
        assert left == []
        assert [one for one in verify(results / "small").findings if one.kind == "damaged"] == []
        assert cut_clips(results) == []
    disk.leave(2**28)
    assert main(words) == 0
    assert verify(results / "small").exit_code == 0
    return {"sizes of the disk": number + 1, "stopped": stopped}


def own_clips(folder: Path) -> Path:
    """A list of four clips, two of each prompt."""
    rng, lines = random.Random(0), ["path,prompt"]
    folder.mkdir()
    for number in range(4):
        scene = random_scene(rng)
        for take in range(2):
            write_mp4(folder / f"{number}_{take}.mp4", render(scene, rng)[:5], 8.0)
            lines.append(f'{number}_{take}.mp4,"{scene.caption}"')
    (folder / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "list.csv"


def used_by(stage: str, whole: Path) -> int:
    """Bytes, in pages, of what a stage writes."""
    files = [path for path in (whole / "small").rglob("*") if path.is_file()]
    own = [path for path in files if maker(path.relative_to(whole)) == stage]
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in own)


def cut_clips(results: Path) -> list[Path]:
    """Clips under a final name that do not decode to all their frames."""
    from videodpo.video import read_mp4

    return [path for path in results.rglob("*.mp4") if len(read_mp4(path)[0]) != 5]
