"""Files are whole or absent, whatever happens to the writer."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time

import pytest

from videodpo.storage.files import atomic_path, sha256_of, write_json, write_text

WRITER = """
import sys, time
from pathlib import Path
from videodpo.storage.files import atomic_path
print("ready", flush=True)
while True:
    for letter in "ab":
        with atomic_path(Path(sys.argv[1])) as partial, partial.open("wb", buffering=0) as handle:
            for _ in range(100):
                handle.write(letter.encode() * 10_000)
                time.sleep(0.001)  # most of the time the file is half written, however slow the disk syncs
"""


def start(program, path):
    child = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline(), "the program ended before it began"
    return child


def test_kill_9_while_writing_leaves_the_file_whole_or_absent(tmp_path):
    rng, path = random.Random(0), tmp_path / "table"
    whole = ["a" * 1_000_000, "b" * 1_000_000]
    caught_midway = 0
    for _ in range(8):
        path.unlink(missing_ok=True)
        writer = start(WRITER, path)
        time.sleep(rng.uniform(0.001, 0.5))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        if path.exists():
            assert path.read_text() in whole
        caught_midway += sum(left.stat().st_size < len(whole[0]) for left in tmp_path.glob(".*.partial"))
        for left in tmp_path.glob(".*.partial"):
            left.unlink()
    assert caught_midway, "no kill came while a file was half written: the test shows nothing"


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table"
    write_text(path, "old")

    def fail():
        with atomic_path(path) as partial:
            partial.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["table"]


def test_the_temporary_file_lies_in_the_same_folder_under_another_name(tmp_path):
    with atomic_path(tmp_path / "t.parquet") as partial:
        partial.write_text("x")
        assert partial.parent == tmp_path
        assert not list(tmp_path.glob("*.parquet"))


def test_missing_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "c.txt", "x")
    assert (tmp_path / "a" / "b" / "c.txt").read_text() == "x"


def test_json_is_sorted_so_that_equal_values_give_equal_bytes(tmp_path):
    write_json(tmp_path / "one", {"b": 1, "a": [2, "ä"]})
    write_json(tmp_path / "two", {"a": [2, "ä"], "b": 1})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert json.loads((tmp_path / "one").read_text(encoding="utf-8")) == {"a": [2, "ä"], "b": 1}


def test_json_refuses_nan_that_other_readers_cannot_read(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x", {"a": float("nan")})
    assert not (tmp_path / "x").exists()


def test_sha256_is_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc" * 100_000)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(b"abc" * 100_000).hexdigest()
