"""Files are whole or absent, whatever happens to the writer."""

from __future__ import annotations

import json

import pytest

from videodpo.storage.files import atomic_path, write_json, write_text


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
