"""SIGKILL of the driver, a stage or all processes at random moments: the run ends with the undisturbed result."""

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

from tests.conftest import ROOT, small_run
from tests.support.workspace import last_try, make_workspace, without_default_scorers
from videodpo.config.loading import read_config
from videodpo.runtime.locks import driver
from videodpo.storage.tables import read_table

CLOCKS = ["seconds", "samples_per_second", "max_memory_mb"]  # of the training's log
CLIP_STORAGE = os.environ.get("VIDEODPO_CLIP_STORAGE", "files")
RUN = os.environ.get("VIDEODPO_FAULTS_RUN", "small")  # or demo, which takes an hour for 50 kills
PATIENCE = 3600.0
LATEST = {"small": 25.0, "demo": 60.0}  # seconds from the driver's start to the kill
YEAR = 365 * 24 * 3600.0
LEAVES = re.compile(r"jobs of an earlier start still run|is (being made|held) by pid \d+ on \S+ since 20")
MADE = re.compile(r"(shard-\d+: batch \d+ done|shard-\d+\.\w+: (?:block|micro-batch) \d+ done)")


@pytest.fixture(scope="module")
def workspace(random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Workspace with six prompts and three clips each, in two shards; or the demo."""
    if RUN == "demo":
        overlay = read_config(ROOT / "presets" / "demo.yaml")
    else:
        overlay = without_default_scorers(small_run(random_model, Path("results")))
        overlay["prompts"]["source"]["path"] = None
        overlay["generate"]["shards"] = 2
        overlay["evaluate"]["shards"] = 1
    overlay["run"] = "run"
    overlay["clip_storage"] = CLIP_STORAGE
    overlay["train_runtime"]["checkpoint_steps"] = 1
    folder = make_workspace(tmp_path_factory.mktemp("workspace"), overlay)
    (folder / "demo").symlink_to(ROOT / "demo")  # the preset's paths are relative to this folder
    return folder


def start(workspace: Path, results: str, *arguments: str) -> subprocess.Popen[str]:
    # A job that meets a left-over job's lock names it only in its own log.
    options = ["--cores", "2", "--nolock", "--ignore-incomplete", "--show-failed-logs", "--configfile", "overlay.yaml"]
    return subprocess.Popen(
        ["snakemake", *options, "--config", f"results={results}", *arguments],
        cwd=workspace,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def result(folder: Path) -> dict[str, bytes | pd.DataFrame]:
    """Every table, the adapter, the evaluation's summary, and the training log without its clocks."""
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
    """Stage processes that this driver, or an earlier one of its session, has started."""
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


def kill(driver: subprocess.Popen[str], what: str, rng: random.Random) -> str:
    """Kill a process and return its name; the driver if no stage runs."""
    if what == "group":
        os.killpg(driver.pid, signal.SIGKILL)
    elif what == "stage" and (stages := stages_of(driver.pid)):
        os.kill(rng.choice(stages), signal.SIGKILL)
    else:
        driver.kill()
        return "driver"
    return what


def work_done(folder: Path) -> list[str]:
    """New lines about saved work in the logs of sampling, scoring and reference errors."""
    lines = []
    for stage in ("generate", "score", "reference", "evaluate_generate", "evaluate_score"):
        for log in (folder / "round1" / "logs" / stage).rglob("*.log"):
            place = log.relative_to(folder / "round1" / "logs").parent
            lines += [f"{place} {match}" for match in MADE.findall(log.read_text(encoding="utf-8"))]
            log.unlink()
    return lines


@pytest.fixture(scope="module")
def undisturbed(workspace: Path) -> Path:
    """Folder of an undisturbed run."""
    driver = start(workspace, "whole")
    output, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, output
    return workspace / "whole" / "run"


def test_a_run_ends_like_an_undisturbed_one_after_sigkills_at_random_moments(
    workspace, undisturbed, fault_tries, figures
):
    expected = result(undisturbed)
    to_do = Counter(work_done(undisturbed))
    assert set(to_do.values()) == {1}

    folder, rng, kills, ended = workspace / "killed" / "run", random.Random(11), Counter(), 0
    done: Counter[str] = Counter()
    while True:
        driver = start(workspace, "killed")
        what = rng.choice(["driver", "stage", "group"]) if kills.total() < fault_tries else "nothing"
        try:
            driver.wait(timeout=rng.uniform(4.0, LATEST[RUN]) if what != "nothing" else PATIENCE)
        except subprocess.TimeoutExpired:
            kills[kill(driver, what, rng)] += 1
        driver.communicate(timeout=PATIENCE)
        while stages_of(driver.pid):  # stages of a killed driver continue
            if rng.random() < 0.5:
                second = start(workspace, "killed")
                try:
                    printed, _ = second.communicate(timeout=LATEST[RUN] / 2)
                    assert second.returncode == 0 or LEAVES.search(printed), printed
                except subprocess.TimeoutExpired:  # no left-over job to wait for: it runs
                    kills[kill(second, what, rng)] += 1
                    second.communicate(timeout=PATIENCE)
                    driver = second
            time.sleep(0.5)
        done.update(work_done(folder))
        if driver.returncode == 0:  # it ended before the kill
            ended += 1
            assert_same(result(folder), expected)
            if what == "nothing":
                break
            shutil.rmtree(folder)
    assert kills.total() >= fault_tries
    again = sum(max(0, count - ended) for count in done.values())
    made = {"batches, blocks and visits": to_do.total() * ended, "made again": again}
    figures(
        f"SIGKILL at random moments of the {RUN} run, clips in {CLIP_STORAGE}",
        {"tries": kills.total(), **kills, "runs that ended": ended, **made},
    )
    assert again == 0, done


def test_a_clock_that_jumps_by_a_year_re_runs_nothing(workspace, undisturbed):
    """Older tables start jobs that find their work done; an input from the future fails a job with a message."""
    expected, logs = result(undisturbed), undisturbed / "round1" / "logs" / "evaluate_generate"
    for path in (undisturbed / "round1" / "evaluation").rglob("*"):
        move(path, -YEAR)
    back = start(workspace, "whole")
    output, _ = back.communicate(timeout=PATIENCE)
    assert back.returncode == 0, output
    assert "rule evaluate_generate:" in output
    assert [log for log in logs.rglob("aligned/*.log") if MADE.search(last_try(log))] == []
    assert_same(result(undisturbed), expected)

    move(undisturbed / "prompts.parquet", YEAR)
    pairs = ["--", "whole/run/round1/pairs.parquet"]
    ahead = start(workspace, "whole", "--forcerun", "pairs", *pairs)
    output, _ = ahead.communicate(timeout=PATIENCE)
    assert ahead.returncode != 0
    assert "clock skew" in output
    move(undisturbed / "prompts.parquet", -YEAR)
    again = start(workspace, "whole", *pairs)
    output, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, output
    assert_same(result(undisturbed), expected)


def move(path: Path, seconds: float) -> None:
    """Shift the times of a file or folder."""
    moved = path.stat().st_mtime + seconds
    os.utime(path, (moved, moved))


def test_a_second_driver_stops_and_names_the_first(workspace):
    folder = workspace / "two" / "run"
    first = start(workspace, "two", "--", "tables")
    while driver(folder) is None:
        assert first.poll() is None
        time.sleep(0.01)
    second = start(workspace, "two", "--", "tables")
    printed, _ = second.communicate(timeout=300)
    output, _ = first.communicate(timeout=PATIENCE)
    assert second.returncode != 0
    assert re.search(rf"is (being made|held) by pid {first.pid} on \S+ since 20", printed), printed
    assert first.returncode == 0, output


def test_of_two_drivers_that_start_at_once_only_one_writes_the_table(workspace, undisturbed, fault_tries, figures):
    left = 0
    for number in range(fault_tries):
        target = f"race{number}/run/prompts.parquet"
        both = [start(workspace, f"race{number}", "--", target) for _ in range(2)]
        ends = [(one.communicate(timeout=PATIENCE)[0], one.returncode) for one in both]
        assert 0 in [code for _, code in ends], ends
        for printed, code in ends:
            if code:
                left += 1
                assert LEAVES.search(printed), printed
        assert (workspace / target).read_bytes() == (undisturbed / "prompts.parquet").read_bytes()
        made = sum("rule prompts:" in printed for printed, _ in ends)
        assert made == 1, ends
    figures("two drivers that start at once", {"tries": fault_tries, "left": left})
