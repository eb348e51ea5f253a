"""A full disk stops every stage with one line and no partial file; with more space the stage ends with the same result.

The disk is a small tmpfs that grows, so that the kernel refuses the writes at a different file each time.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.every_stage import (
    COMMANDS,
    command,
    comparable,
    config,
    made_by,
    maker,
    only_root_mounts,
    own_disk,
    remount,
)
from videodpo.cli import main
from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.render import render
from videodpo.storage.video import write_mp4
from videodpo.tools.verify import verify

SIZES = int(os.environ.get("VIDEODPO_FULL_DISKS", "3"))
pytestmark = only_root_mounts


def leave(disk: Path, num_bytes: int) -> None:
    """Resize the disk until that much is free."""
    now = os.statvfs(disk)
    remount(disk, f"size={(now.f_blocks - now.f_bfree) * now.f_frsize + num_bytes}")


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    with own_disk(tmp_path / "disk") as folder:
        yield folder


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_stage_on_a_full_disk_says_so_and_resumes_with_more_space(
    stage, every_stage, random_model, disk, capsys, figures
):
    results = disk / "results"
    config(random_model, results)
    made_by(stage, every_stage, results)
    figures(f"full disk, {stage}", fill(disk, command(stage, results), used_by(stage, every_stage), capsys))
    expected = comparable(every_stage / "small")
    found = comparable(results / "small")
    assert found == {name: digest for name, digest in expected.items() if name in found}
    own = {name for name in expected if maker(Path("small") / name) == stage}
    assert own <= found.keys()
    assert own or stage == "train"


@pytest.mark.parametrize("other", ["clips in a tar", "clips of one's own"])
def test_other_ways_to_get_clips_do_so_too(other, random_model, disk, tmp_path, capsys, figures):
    changes: dict[str, Any] = {"clip_storage": "tar"}
    if other == "clips of one's own":
        source = {"kind": "clips", "path": str(own_clips(tmp_path / "own"))}
        changes = {"prompts": {"source": source, "num_train": None, "num_heldout": 1}}
    undisturbed, results = tmp_path / "results", disk / "results"
    for folder in (undisturbed, results):
        config(random_model, folder, **changes)
        assert main(command("prompts", folder)) == 0
    assert main(command("generate", undisturbed)) == 0
    figures(f"full disk, {other}", fill(disk, command("generate", results), used_by("generate", undisturbed), capsys))
    assert comparable(results / "small") == comparable(undisturbed / "small")


def fill(disk: Path, words: list[str], needed: int, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """Call a command with more and more space, up to what it needs. It reports a full disk until it succeeds.

    Args:
        words: arguments of the command line. needed: bytes that it writes.
    """
    results, stopped = disk / "results", 0
    for number in range(SIZES):  # from no space at all to nearly enough
        leave(disk, (4096 if needed else 0) + needed * number // (SIZES + 1))
        capsys.readouterr()
        code = main(words)
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("videodpo ")]
        if code == 0:
            assert number, "the stage needed no space"
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
    leave(disk, 2**28)
    assert main(words) == 0
    assert verify(results / "small").exit_code == 0
    return {"sizes of the disk": number + 1, "stopped": stopped}


def own_clips(folder: Path) -> Path:
    """Folder with a list of four clips, two per prompt."""
    rng, lines = random.Random(0), ["path,prompt"]
    folder.mkdir()
    for number in range(4):
        scene = random_scene(rng)
        for take in range(2):
            write_mp4(folder / f"{number}_{take}.mp4", render(scene, rng)[:5], 8.0)
            lines.append(f'{number}_{take}.mp4,"{scene.caption}"')
    (folder / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "list.csv"


def used_by(stage: str, every_stage: Path) -> int:
    """Size of a stage's outputs in bytes, rounded up to pages."""
    files = [path for path in (every_stage / "small").rglob("*") if path.is_file()]
    own = [path for path in files if maker(path.relative_to(every_stage)) == stage]
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in own)


def cut_clips(results: Path) -> list[Path]:
    """Clips under their final names that do not decode to all frames."""
    from videodpo.storage.video import read_mp4

    return [path for path in results.rglob("*.mp4") if len(read_mp4(path)[0]) != 5]
