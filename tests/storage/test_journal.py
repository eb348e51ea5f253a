"""A journal gives back what was appended, up to where a kill or a change cut it."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from videodpo.storage.journal import Journal

ABOUT = {"digest": "d", "rows": 0}
FOR_EVER = """
import sys
import time
from pathlib import Path
from videodpo.storage.journal import Journal
journal = Journal(Path(sys.argv[1]), {"digest": "d", "rows": 0})
for number in range(len(journal.found), 10**9):
    journal.append([number, "x" * (number % 5000)])
    print(number, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "work" / "shard-00000.jsonl"


def filled(path: Path, number: int) -> list[object]:
    values = [{"row": row, "value": row / 3} for row in range(number)]
    journal = Journal(path, ABOUT)
    for value in values:
        journal.append(value)
    return values


def test_lines_come_back_to_the_bit_and_go_on(path):
    values = filled(path, 3)
    assert Journal(path, ABOUT).found == values
    Journal(path, ABOUT).append("more")
    assert Journal(path, ABOUT).found == [*values, "more"]
    Journal(path, ABOUT).remove()
    assert Journal(path, ABOUT).found == []


def test_lines_of_other_settings_do_not_count_and_are_written_over(path):
    filled(path, 3)
    other = Journal(path, ABOUT | {"digest": "e"})
    assert other.found == []
    other.append("new")
    assert Journal(path, ABOUT).found == []
    assert Journal(path, ABOUT | {"digest": "e"}).found == ["new"]


@pytest.mark.parametrize("place", range(0, 400, 7))
def test_a_cut_or_changed_file_counts_up_to_there(path, place):
    values = filled(path, 5)
    content = path.read_bytes()
    ends = [number for number, byte in enumerate(content, start=1) if byte == ord("\n")]
    assert ends[-1] > 400
    whole = sum(end <= place for end in ends)
    for damaged in (content[:place], content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]):
        path.write_bytes(damaged)
        journal = Journal(path, ABOUT)
        assert journal.found == values[:whole]
        journal.append("next")
        assert Journal(path, ABOUT).found == [*values[:whole], "next"]


def test_lines_in_another_order_or_left_out_do_not_count(path):
    values = filled(path, 3)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + third + second)
    assert Journal(path, ABOUT).found == values[:1]
    path.write_bytes(second + third)
    assert Journal(path, ABOUT).found == []


def test_a_number_that_is_not_finite_is_refused_and_nothing_is_written(path):
    values = filled(path, 1)
    with pytest.raises(ValueError, match="JSON"):
        Journal(path, ABOUT).append({"value": float("nan")})
    assert Journal(path, ABOUT).found == values


def test_a_sigkill_loses_no_line_that_was_appended(path, fault_tries, figures):
    draws, most = random.Random(11), 0
    for _ in range(fault_tries):
        command = [sys.executable, "-c", FOR_EVER, str(path)]
        with subprocess.Popen(command, cwd=ROOT / "src", stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            told = [process.stdout.readline()]
            time.sleep(draws.uniform(0, 0.05))
            process.kill()
            told += process.stdout.readlines()
        found = [number for number, _ in Journal(path, ABOUT).found]
        appended = [int(line) for line in told if line.endswith("\n")]
        assert found == list(range(len(found)))
        assert found[-1] - appended[-1] in (0, 1)
        assert appended[0] == most  # it went on where the killed one was
        most = len(found)
    figures("killed writer, journal", {"tries": fault_tries, "lines": most})
