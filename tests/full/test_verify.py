"""Changed, truncated or swapped files are found by name, refused by the stage that reads them, and re-created."""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.support.workspace import SIGNS, dry_run, last_try, snakemake
from videodpo.cli import main
from videodpo.storage.files import sha256_of
from videodpo.storage.tables import read_shards, read_table
from videodpo.tools.verify import Report, verify

DAMAGES = int(os.environ.get("VIDEODPO_DAMAGES", "50"))
# The digest of `planned` is in the command that reads it; `weights.json` is only a cache.
NOT_CHECKED = {
    "planned",
    "weights.json",
    "logs",
    "benchmarks",
    "tracking",
    "samples",
    "locks",
    "state",
    "work",
    "by-clip",
}


@pytest.fixture(scope="module")
def workspace(session_run, tmp_path_factory) -> Path:
    """A copy of the finished run that keeps times and hard links."""
    folder = tmp_path_factory.mktemp("damaged") / "workspace"
    shutil.copytree(session_run.folder, folder, symlinks=True)
    links = {}
    for path in session_run.folder.rglob("*"):
        if path.is_file() and path.stat().st_nlink > 1:
            copied = folder / path.relative_to(session_run.folder)
            first = links.setdefault(path.stat().st_ino, copied)
            if first != copied:
                copied.unlink()
                os.link(first, copied)
    return folder


@pytest.fixture
def run(workspace) -> Path:
    return workspace / SIGNS / "small"


@pytest.fixture
def keep(tmp_path):
    """Function that restores files, with bytes and times, after the test."""
    kept: dict[Path, tuple[bytes, os.stat_result]] = {}

    def remember(*paths: Path) -> None:
        for path in paths:
            kept[path] = (path.read_bytes(), path.stat())

    yield remember
    for path, (content, stat) in kept.items():
        overwrite(path, content, stat)


def overwrite(path: Path, content: bytes, stat: os.stat_result) -> None:
    """Overwrite in place with unchanged times, as a failing disk does."""
    with open(path, "r+b") as handle:
        handle.write(content)
        handle.truncate()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def flip(path: Path, draws: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draws.randrange(len(content))] ^= 1 << draws.randrange(8)
    overwrite(path, bytes(content), path.stat())


def cut(path: Path, draws: random.Random) -> None:
    content = path.read_bytes()
    overwrite(path, content[: draws.randrange(len(content))], path.stat())


def swap(one: Path, other: Path) -> None:
    contents, stats = (one.read_bytes(), other.read_bytes()), (one.stat(), other.stat())
    overwrite(one, contents[1], stats[0])
    overwrite(other, contents[0], stats[1])


def kind_of(path: Path, run: Path) -> str:
    """Path without numbers and ids, so that all clips are one kind and each type of table another."""
    return re.sub(r"[0-9a-f]{16}|\d+", "#", path.relative_to(run).as_posix())


def files_by_kind(run: Path) -> dict[str, list[Path]]:
    kinds: dict[str, list[Path]] = {}
    for path in sorted(run.rglob("*")):
        inside = path.relative_to(run).parts
        skipped = NOT_CHECKED & set(inside) or path.suffix in (".lock", "") or path.name == ".snakemake_timestamp"
        if path.is_file() and path.stat().st_size and not skipped:
            kinds.setdefault(kind_of(path, run), []).append(path)
    return kinds


def named(path: Path, run: Path) -> set[str]:
    """Names under which damage of this file may be reported: its own, its product's and its folder's."""
    product = path.with_name(path.name[1:].removesuffix(".sha256")) if path.name.endswith(".sha256") else path
    return {
        one.relative_to(run).as_posix() for one in (product, *product.parents) if one.is_relative_to(run) and one != run
    }


def found_by(report: Report, path: Path, run: Path) -> set[str]:
    """Findings that name damage of this file; a damaged manifest of a folder may list a file that never existed."""
    found = {finding.path.as_posix() for finding in report.findings}
    folder = path.with_name(path.name[1:].removesuffix(".sha256"))
    inside = f"{folder.relative_to(run).as_posix()}/" if path.name.endswith(".sha256") else "/"
    return {name for name in found if name in named(path, run) or name.startswith(inside)}


def test_an_undamaged_run_has_no_findings(run):
    report = verify(run)
    assert report.findings == []
    assert report.exit_code == 0
    assert report.num_fine > 50


def test_every_damage_is_found_by_name(run, figures):
    draws, counts = random.Random(0), {"flipped": 0, "cut": 0, "swapped": 0}
    kinds = files_by_kind(run)
    assert {"prompts.parquet", "round#/adapter/pytorch_lora_weights.safetensors"} <= kinds.keys()
    names = draws.sample(sorted(kinds), len(kinds))
    for number in range(DAMAGES):
        victims = [draws.choice(kinds[names[number % len(names)]])]
        what = ("flipped", "cut", "swapped")[number % 3]
        alike = [path for paths in kinds.values() for path in paths if path.suffix == victims[0].suffix]
        others = [path for path in alike if path.read_bytes() != victims[0].read_bytes()]
        if what == "swapped" and not others:
            what = "flipped"
        if what == "swapped":
            victims.append(draws.choice(others))
        before = [(path, path.read_bytes(), path.stat()) for path in victims]
        if what == "swapped":
            swap(*victims)
        else:
            {"flipped": flip, "cut": cut}[what](victims[0], draws)
        assert [path.stat().st_mtime_ns for path in victims] == [stat.st_mtime_ns for _, _, stat in before]
        report = verify(run)
        found = [found_by(report, path, run) for path in victims]
        assert all(found), (what, victims, report.findings)
        assert {finding.path.as_posix() for finding in report.findings} == set().union(*found), (what, victims, report)
        kinds_found = {finding.kind for finding in report.findings}
        assert report.exit_code == (0 if kinds_found == {"edited"} else 3)
        counts[what] += 1
        for path, content, stat in before:
            overwrite(path, content, stat)
    assert verify(run).findings == []
    figures("damaged files", {"damages": DAMAGES, "found": DAMAGES, "kinds of files": len(kinds), **counts})


READERS = {
    "prompts.parquet": ["generate", "--config", "config/generate.json"],
    "config/pairs.json": ["pairs", "--config", "config/pairs.json"],
    "round1/videos/shard-00000.parquet": ["pairs", "--config", "config/pairs.json"],
    "round1/scores/temporal_flickering/shard-00001.parquet": ["omniscore", "--config", "config/omniscore.json"],
    "round1/omniscore.parquet": ["pairs", "--config", "config/pairs.json"],
    "round1/pairs.parquet": ["visits", "--config", "config/visits.json"],
    "round1/visits.parquet": ["reference", "--config", "config/reference.json"],
    "round1/reference/shard-00000.parquet": ["train", "--config", "config/train.json"],
    "round1/adapter/pytorch_lora_weights.safetensors": [
        "generate",
        "--config",
        "config/evaluate_generate.json",
        "--arm",
        "aligned",
    ],
    "round1/evaluation/scores/base/brightness/shard-00000.parquet": ["evaluate", "--config", "config/evaluate.json"],
    "round1/evaluation/summary.json": ["report", "--config", "config/report.json"],
    "round1/train_log.parquet": ["report", "--config", "config/report.json"],
}


def refused(command: list[str], run: Path, capsys) -> str:
    """The stage's error, which is one line."""
    capsys.readouterr()
    command = [str(run.relative_to(Path.cwd()) / one) if one.startswith("config/") else one for one in command]
    assert main(command) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("videodpo ")]
    assert len(said) == 1
    assert f"`videodpo verify {shlex.quote(str(run.relative_to(Path.cwd())))} --discard-damaged`" in said[0]
    return said[0]


@pytest.mark.parametrize("name", READERS)
def test_the_stage_that_reads_a_damaged_file_refuses_it(run, keep, name, monkeypatch, capsys):
    monkeypatch.chdir(run.parents[1])
    keep(run / name)
    cut(run / name, random.Random(name))
    assert name in refused(READERS[name], run, capsys) or "adapter" in name


def of_one_pair(run: Path, column: str) -> str:
    """Path of the clip or latents of the first pair's winner: every pair is read."""
    pairs, videos = read_table(run / "round1/pairs.parquet"), read_shards(run / "round1/videos").set_index("video_id")
    return str(videos.loc[pairs.winner_id[0], column])


def test_a_damaged_clip_is_refused_by_the_scoring_and_by_the_report(run, keep, monkeypatch, capsys):
    monkeypatch.chdir(run.parents[1])
    clip, store = run / of_one_pair(run, "path"), run / "round1/scores/by-clip/shard-00001.jsonl"
    keep(clip, store)
    flip(clip, random.Random(0))
    store.unlink()  # otherwise nothing would be scored
    try:
        command = ["score", "--config", "config/score/temporal_flickering.json", "--shard", "1"]
        assert clip.name in refused(command, run, capsys)
        assert clip.name in refused(["report", "--config", "config/report.json"], run, capsys)
    finally:
        store.touch()


def digests(run: Path) -> dict[str, str]:
    """Digest of every product of the run."""
    files = [path for path in run.rglob("*") if path.is_file() and not NOT_CHECKED & set(path.relative_to(run).parts)]
    wanted = (".parquet", ".safetensors", ".mp4", ".html", ".svg")
    return {str(path.relative_to(run)): sha256_of(path) for path in files if path.suffix in wanted}


# The damaged file; the rules that re-create it; the rules that a call of the full workflow then runs.
MENDED = {
    "clip": ({"generate"}, set()),
    "round1/videos/latents/shard-00001.safetensors": ({"generate"}, set()),
    "round1/scores/temporal_flickering/shard-00001.parquet": ({"collect_scores"}, set()),
    "prompts.parquet": ({"prompts"}, set()),
    "round1/pairs.parquet": ({"pairs"}, set()),
    "round1/adapter/pytorch_lora_weights.safetensors": (
        {"train"},
        {
            "evaluate_generate",
            "evaluate_score",
            "evaluate_collect_scores",
            "evaluate_appearance",
            "evaluate",
            "report",
        },
    ),
}


@pytest.mark.parametrize("name", MENDED)
def test_discard_damaged_re_makes_exactly_the_damaged_files(session_run, workspace, run, name, monkeypatch, capsys):
    monkeypatch.chdir(workspace)
    made, after = MENDED[name]
    options = ["--configfile", "overlay.yaml"]
    expected = digests(run)
    victim = run / (of_one_pair(run, "path") if name == "clip" else name)
    cut(victim, random.Random(name))
    assert main(["verify", f"{SIGNS}/small", "--discard-damaged"]) == 3
    said = capsys.readouterr().out
    assert str(victim.relative_to(run) if "adapter" not in name else "round1/adapter") in said
    (line,) = [line for line in said.splitlines() if line.startswith("  snakemake ")]
    targets = shlex.split(line)[3:]
    assert {job.rule for job in dry_run(workspace, *targets, *options, **session_run.environment)} == made
    answer = snakemake(workspace, "--cores", "2", *targets, *options, **session_run.environment)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert digests(run) == expected
    then = {job.rule for job in dry_run(workspace, *options, **session_run.environment)} - {"all"}
    assert then == after
    if after:
        answer = snakemake(workspace, "--cores", "2", *options, **session_run.environment)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert digests(run) == expected
        log = run / "round1/logs/evaluate_generate/aligned/shard-00000.log"
        assert " done" not in last_try(log), "clips of the same adapter were sampled again"
    assert main(["verify", f"{SIGNS}/small"]) == 0


def test_an_edited_table_is_listed_without_an_alarm(run, keep):
    keep(run / "round1/pairs.parquet")
    table = pd.read_parquet(run / "round1/pairs.parquet").iloc[1:]
    table.to_parquet(run / "round1/pairs.parquet")
    report = verify(run)
    assert [(finding.path.name, finding.kind) for finding in report.findings] == [("pairs.parquet", "edited")]
    assert report.exit_code == 0
