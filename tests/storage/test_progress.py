"""A progress log returns the appended values, up to the first damaged or missing line."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from videodpo.storage.progress import Progress

IDENTITY = {"digest": "d", "rows": 0}
FOREVER = """
import sys
from pathlib import Path
from videodpo.storage.progress import Progress
progress = Progress(Path(sys.argv[1]), {"digest": "d", "rows": 0})
for number in range(len(progress.finished), 10**9):
    progress.append([number, "x" * (number % 5000)])
    print(number, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work" / "shard-00000.jsonl"


def filled(path: Path, number: int) -> list[object]:
    values = [{"row": row, "value": row / 3} for row in range(number)]
    progress = Progress(path, IDENTITY)
    for value in values:
        progress.append(value)
    return values


def test_values_are_read_back_exactly_and_more_can_be_appended(path):
    values = filled(path, 3)
    assert Progress(path, IDENTITY).finished == values
    Progress(path, IDENTITY).append("more")
    assert Progress(path, IDENTITY).finished == [*values, "more"]


def test_values_of_another_identity_are_ignored_and_overwritten(path):
    filled(path, 3)
    other = Progress(path, IDENTITY | {"digest": "e"})
    assert other.finished == []
    other.append("new")
    assert Progress(path, IDENTITY).finished == []
    assert Progress(path, IDENTITY | {"digest": "e"}).finished == ["new"]


@pytest.mark.parametrize("position", range(0, 400, 7))
def test_a_truncated_or_changed_file_counts_up_to_the_damage(path, position):
    values = filled(path, 5)
    content = path.read_bytes()
    ends = [number for number, byte in enumerate(content, start=1) if byte == ord("\n")]
    complete = sum(end <= position for end in ends)
    flipped = content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]
    for damaged in (content[:position], flipped):
        path.write_bytes(damaged)
        progress = Progress(path, IDENTITY)
        assert progress.finished == values[:complete]
        progress.append("next")
        assert Progress(path, IDENTITY).finished == [*values[:complete], "next"]


def test_lines_after_a_swapped_or_missing_one_are_ignored(path):
    values = filled(path, 3)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + third + second)
    assert Progress(path, IDENTITY).finished == values[:1]
    path.write_bytes(second + third)
    assert Progress(path, IDENTITY).finished == []


def test_a_number_that_is_not_finite_is_refused_and_nothing_is_written(path):
    values = filled(path, 1)
    with pytest.raises(ValueError, match="JSON"):
        Progress(path, IDENTITY).append({"value": float("nan")})
    assert Progress(path, IDENTITY).finished == values


def test_a_sigkill_loses_no_value_that_was_appended(path, fault_tries, figures):
    draws, most = random.Random(11), 0
    for _ in range(fault_tries):
        command = [sys.executable, "-c", FOREVER, str(path)]
        with subprocess.Popen(command, cwd=ROOT / "src", stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            printed = [process.stdout.readline()]
            time.sleep(draws.uniform(0, 0.05))
            process.kill()
            printed += process.stdout.readlines()
        found = [number for number, _ in Progress(path, IDENTITY).finished]
        appended = [int(line) for line in printed if line.endswith("\n")]
        assert found == list(range(len(found)))
        assert found[-1] - appended[-1] in (0, 1)
        assert appended[0] == most  # it resumed after the last value of the killed process
        most = len(found)
    figures("killed writer, progress log", {"tries": fault_tries, "lines": most})
