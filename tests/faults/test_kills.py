"""SIGKILL of the driver, of a stage and of everything, at random moments of a whole run: it ends as if undisturbed."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import small_run
from tests.workspace import make_workspace, without_default_scorers
from videodpo.locks import driver
from videodpo.tables import read_table

CLOCKS = ["seconds", "samples_per_second", "max_memory_mb"]  # of the training's log
CLIP_STORAGE = "VIDEODPO_CLIP_STORAGE"
YEAR = 365 * 24 * 3600.0
LEAVES = re.compile(r"jobs of an earlier start still run|is held by pid \d+ on \S+ since 20")
MADE = re.compile(r"(shard-\d+: batch-\d+ done|shard-\d+\.parquet: blocks to \d+)")


@pytest.fixture(scope="module")
def workspace(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six prompts, three clips each, in two shards, through every rule."""
    overlay = small_run(random_model, Path("results"))
    overlay["prompts"]["source"]["path"] = None
    overlay["generate"]["shards"] = 2
    overlay["clip_storage"] = os.environ.get(CLIP_STORAGE, "files")
    overlay["trainer"]["checkpoint_steps"] = 1
    overlay["evaluate"]["shards"] = 1
    return make_workspace(tmp_path_factory.mktemp("workspace"), without_default_scorers(overlay))


def start(workspace: Path, results: str, *arguments: str) -> subprocess.Popen[str]:
    command = ["snakemake", "--cores", "2", "--nolock", "--rerun-incomplete", "--configfile", "overlay.yaml"]
    return subprocess.Popen(
        [*command, "--config", f"results={results}", *arguments],
        cwd=workspace,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def result(folder: Path) -> dict[str, bytes | pd.DataFrame]:
    """Every table, the adapter and the evaluation's summary; of the training's log what is no clock's."""
    found: dict[str, bytes | pd.DataFrame] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if "/work/" in name or "/by-clip/" in name or "/state/" in name:
            continue
        if path.name == "train_log.parquet":
            found[name] = read_table(path).drop(columns=CLOCKS)
        elif path.suffix in (".parquet", ".safetensors", ".tar", ".mp4") or path.name == "summary.json":
            found[name] = path.read_bytes()
    return found


def assert_same(actual: dict[str, bytes | pd.DataFrame], expected: dict[str, bytes | pd.DataFrame]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, bytes):
            assert actual[name] == value, name
        else:
            pd.testing.assert_frame_equal(actual[name], value)


def stages_of(driver: int) -> list[int]:
    """Processes of the stages that this driver, or an earlier one of its session, has started."""
    found = []
    for status in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = status.read_bytes().split(b"\0")
            session = os.getsid(int(status.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if session == driver and any(word.endswith(b"/videodpo") for word in words):
            found.append(int(status.parent.name))
    return found


def kill(driver: subprocess.Popen[str], what: str, rng: random.Random) -> None:
    if what == "driver":
        driver.kill()
    elif what == "group":
        os.killpg(driver.pid, signal.SIGKILL)
    elif stages := stages_of(driver.pid):
        os.kill(rng.choice(stages), signal.SIGKILL)


def work_done(folder: Path) -> list[str]:
    """What the stages' logs tell that was made since the last look."""
    lines = []
    for log in [*folder.glob("round1/logs/generate/*.log"), *folder.glob("round1/logs/measure/*.log")]:
        lines += [f"{log.parent.name} {match}" for match in MADE.findall(log.read_text(encoding="utf-8"))]
        log.unlink()
    return lines


@pytest.fixture(scope="module")
def whole(workspace: Path) -> Path:
    """The folder of a run that nothing disturbed."""
    driver = start(workspace, "whole")
    output, _ = driver.communicate(timeout=900)
    assert driver.returncode == 0, output
    return workspace / "whole" / "small"


def test_a_run_ends_like_an_undisturbed_one_after_sigkills_at_random_moments(workspace, whole, fault_tries, figures):
    expected = result(whole)
    to_do = Counter(work_done(whole))

    folder, rng, kills, ended = workspace / "killed" / "small", random.Random(11), Counter(), 0
    done: Counter[str] = Counter()
    while True:
        driver = start(workspace, "killed")
        what = rng.choice(["driver", "stage", "group"]) if kills.total() < fault_tries else "nothing"
        try:
            driver.wait(timeout=rng.uniform(4.0, 25.0) if what != "nothing" else 900)
        except subprocess.TimeoutExpired:
            kills[what] += 1
            kill(driver, what, rng)
        driver.communicate(timeout=900)
        while stages_of(driver.pid):  # what a killed driver leaves behind works on
            if rng.random() < 0.5:
                second = start(workspace, "killed")
                told, _ = second.communicate(timeout=900)
                assert second.returncode == 0 or LEAVES.search(told), told
            time.sleep(0.5)
        done.update(work_done(folder))
        if driver.returncode == 0:  # over before the kill
            ended += 1
            assert_same(result(folder), expected)
            if what == "nothing":
                break
            shutil.rmtree(folder)
    assert kills.total() == fault_tries
    again = sum((done - Counter({name: count * ended for name, count in to_do.items()})).values())
    made = {"batches and blocks": to_do.total() * ended, "made again": again}
    storage = os.environ.get(CLIP_STORAGE, "files")
    figures(
        f"SIGKILL at random moments, clips in {storage}",
        {"tries": fault_tries, **kills, "runs that ended": ended, **made},
    )
    assert again == 0, done


def test_a_clock_that_jumps_by_a_year_makes_nothing_again(workspace, whole):
    """Tables of the past start jobs, which find their work done; an input of the future fails a job, and is told."""
    expected, logs = result(whole), whole / "round1" / "logs" / "evaluate_generate"
    for path in (whole / "round1" / "evaluation").rglob("*"):
        move(path, -YEAR)
    back = start(workspace, "whole")
    output, _ = back.communicate(timeout=900)
    assert back.returncode == 0, output
    assert "rule evaluate_generate:" in output
    assert [log for log in logs.rglob("aligned/*.log") if MADE.search(log.read_text(encoding="utf-8"))] == []
    assert_same(result(whole), expected)

    move(whole / "prompts.parquet", YEAR)
    pairs = ["--", "whole/small/round1/pairs.parquet"]
    ahead = start(workspace, "whole", "--forcerun", "pairs", *pairs)
    output, _ = ahead.communicate(timeout=900)
    assert ahead.returncode != 0
    assert "clock skew" in output
    move(whole / "prompts.parquet", -YEAR)
    again = start(workspace, "whole", *pairs)
    output, _ = again.communicate(timeout=900)
    assert again.returncode == 0, output
    assert_same(result(whole), expected)


def move(path: Path, seconds: float) -> None:
    """In time."""
    moved = path.stat().st_mtime + seconds
    os.utime(path, (moved, moved))


def test_of_two_drivers_one_works_and_the_other_says_who_does(workspace):
    folder = workspace / "two" / "small"
    first = start(workspace, "two", "--", "tables")
    while driver(folder) is None:
        assert first.poll() is None
        time.sleep(0.01)
    second = start(workspace, "two", "--", "tables")
    told, _ = second.communicate(timeout=300)
    output, _ = first.communicate(timeout=900)
    assert second.returncode != 0
    assert re.search(rf"is (being made|held) by pid {first.pid} on \S+ since 20", told), told
    assert first.returncode == 0, output
