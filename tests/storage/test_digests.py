"""Digests beside files: what they say while a file is replaced, and what a reader makes of them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open

from videodpo.storage.digests import (
    Damaged,
    digest_path,
    fault,
    product_path,
    read_digests,
    read_json,
    record_json,
    remove_folder,
    replace_folder,
    require_intact,
)
from videodpo.storage.files import NoSpace, atomic_path, remove_leftover, scratch_folder, sha256_of
from videodpo.storage.tensors import TensorFile, intact_tensors, sort_metadata, write_tensors


def test_sha256sum_reads_them(tmp_path):
    record_json(tmp_path / "a.json", {"a": 1})
    write_tensors(tmp_path / "b.safetensors", {"x": torch.ones(3)})
    (tmp_path / ".adapter.partial").mkdir()
    (tmp_path / ".adapter.partial" / "c.txt").write_text("c")
    replace_folder(tmp_path / ".adapter.partial", tmp_path / "adapter")
    names = [digest_path(tmp_path / name).name for name in ("a.json", "b.safetensors", "adapter")]
    answer = subprocess.run(["sha256sum", "--check", "--strict", *names], cwd=tmp_path, check=True, capture_output=True)
    assert answer.stdout == b"a.json: OK\nb.safetensors: OK\nadapter/c.txt: OK\n"


def test_between_the_digest_and_the_file_the_old_one_is_still_right(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    record_json(path, 1)
    replace = os.replace

    def killed(source, target):
        if target == path:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("videodpo.storage.files.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        record_json(path, 2)
    assert len(read_digests(path)) == 2
    assert fault(path) is None
    assert read_json(path) == 1
    monkeypatch.undo()
    record_json(path, 2)
    assert len(read_digests(path)) == 1
    assert read_json(path) == 2


def test_a_digest_of_a_file_that_is_gone_does_no_harm(tmp_path):
    path = tmp_path / "a.json"
    record_json(path, 1)
    path.unlink()
    record_json(path, 2)
    assert [digests.files for digests in read_digests(path)] == [{"a.json": sha256_of(path)}]


def test_two_files_that_were_swapped_with_their_times_are_damaged(tmp_path):
    for number in (0, 1):
        record_json(tmp_path / f"shard-{number}.json", number)
    (tmp_path / "shard-0.json").rename(tmp_path / "aside")
    (tmp_path / "shard-1.json").rename(tmp_path / "shard-0.json")
    (tmp_path / "aside").rename(tmp_path / "shard-1.json")
    for number in (0, 1):
        with pytest.raises(Damaged, match=rf"shard-{number}\.json: sha256 of shard-{number}\.json is not what"):
            read_json(tmp_path / f"shard-{number}.json")


def test_a_file_of_which_nothing_is_known_is_read(tmp_path):
    (tmp_path / "a.json").write_text("3")
    assert read_json(tmp_path / "a.json") == 3


@pytest.mark.parametrize("content", ["", "x", "0" * 64])
def test_digests_that_are_none_are_damage(tmp_path, content):
    record_json(tmp_path / "a.json", 1)
    digest_path(tmp_path / "a.json").write_text(content)
    with pytest.raises(Damaged, match="has no digests"):
        require_intact(tmp_path / "a.json")


def test_a_file_that_was_read_is_checked_again_when_it_was_touched(tmp_path):
    path = tmp_path / "a.json"
    record_json(path, 1)
    stat = path.stat()
    assert read_json(path) == 1
    path.write_text("2\n")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(Damaged):
        read_json(path)


def test_each_tensor_is_checked_by_itself(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"good": torch.zeros(5), "bad": torch.ones(5), "half": torch.ones(5, dtype=torch.bfloat16)})
    content = bytearray(path.read_bytes())
    content[content.index(torch.ones(5).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    file = TensorFile(path)
    assert torch.equal(file.get("good"), torch.zeros(5))
    with pytest.raises(Damaged, match=r"a\.safetensors: tensor bad is not what was written"):
        file.get("bad")
    assert intact_tensors(path).keys() == {"good", "half"}


def test_a_header_that_changed_is_damage_whatever_it_says(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.zeros(5)}, {"lengths": "17"})
    path.write_bytes(path.read_bytes().replace(b"17", b"18"))
    with pytest.raises(Damaged, match="the header is not what was written"):
        TensorFile(path)


def test_a_folder_that_is_removed_leaves_no_digests(tmp_path):
    (tmp_path / ".a.partial").mkdir()
    (tmp_path / ".a.partial" / "file").write_text("x")
    replace_folder(tmp_path / ".a.partial", tmp_path / "a")
    remove_folder(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_what_is_being_written_is_no_leftover(tmp_path):
    with product_path(tmp_path / "a") as partial:
        partial.write_text("half")
        assert not remove_leftover(partial)
        assert partial.exists()
    left = tmp_path / ".a.1.partial"
    left.write_text("of a killed writer")
    scratch_folder(left).mkdir()
    with atomic_path(tmp_path / "a") as partial:
        partial.write_text("b")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.sha256", "a"]


def test_a_library_that_says_nothing_of_errno_is_understood(tmp_path):
    with pytest.raises(NoSpace, match=r"a: no space left on its disk; free some"), atomic_path(tmp_path / "a"):
        raise Exception("Error while serializing: I/O error: No space left on device (os error 28)")


def test_metadata_of_another_library_gets_one_order(tmp_path):
    """Written twice in as many orders as there are entries, at worst."""
    metadata = {letter: letter * 3 for letter in "hgfedcba"} | {"text": 'a "word" \\ and \u00e4'}
    path = tmp_path / "a.safetensors"
    program = f"import torch, safetensors.torch as s; s.save_file({{'x': torch.ones(2)}}, {str(path)!r}, {metadata!r})"
    found = []
    for _ in range(2):
        subprocess.run([sys.executable, "-c", program], check=True)
        sort_metadata(path)
        found.append(path.read_bytes())
        with safe_open(path, framework="pt") as file:
            assert file.metadata() == metadata
            assert torch.equal(file.get_tensor("x"), torch.ones(2))
    assert found[0] == found[1]
