"""Atomic writes: a file is complete or absent, whatever happens to the writer."""

from __future__ import annotations

import errno
import json
import os
import stat

import pytest
import torch
from safetensors.torch import save_file

from videodpo.runtime.locks import exclusive
from videodpo.storage.files import atomic_path, rename_folder, sync_folder, write_json, write_text


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


def test_the_temporary_file_is_in_the_same_folder_under_another_name(tmp_path):
    with atomic_path(tmp_path / "t.parquet") as partial:
        partial.write_text("x")
        assert partial.parent == tmp_path
        assert not list(tmp_path.glob("*.parquet"))


def test_missing_folders_are_created(tmp_path):
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


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_file_modes_follow_the_umask_for_every_library(tmp_path, umask):
    """safetensors writes files that only the owner can read."""
    before = os.umask(umask)
    try:
        with atomic_path(tmp_path / "file.safetensors") as partial:
            save_file({"x": torch.zeros(1)}, partial)
        (tmp_path / ".folder.partial").mkdir()
        save_file({"x": torch.zeros(1)}, tmp_path / ".folder.partial" / "adapter.safetensors")
        rename_folder(tmp_path / ".folder.partial", tmp_path / "folder")
        with exclusive(tmp_path, tmp_path / "file.safetensors"):
            pass
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~umask}


def test_a_folder_leaves_the_mode_of_a_hard_linked_file_alone(tmp_path):
    original = tmp_path / "clip.mp4"
    original.write_bytes(b"x")
    original.chmod(0o440)
    (tmp_path / ".folder.partial").mkdir()
    os.link(original, tmp_path / ".folder.partial" / "clip.mp4")
    rename_folder(tmp_path / ".folder.partial", tmp_path / "folder")
    assert stat.S_IMODE(original.stat().st_mode) == 0o440


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_cannot_sync_folders_is_accepted(tmp_path, monkeypatch, number):
    sync = os.fsync

    def refuse_folders(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        sync(handle)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_json(tmp_path / "x.json", 1)
    assert json.loads((tmp_path / "x.json").read_text()) == 1


def test_a_folder_whose_disk_fails_is_an_error(tmp_path, monkeypatch):
    def fail(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)
