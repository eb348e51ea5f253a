"""Manifests next to files: their content, when they are written, and how readers use them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from videodpo.storage.files import write_text
from videodpo.storage.manifests import (
    Damaged,
    edited_inputs,
    fault,
    manifest_path,
    product_folder,
    product_path,
    read_json,
    record_json,
    record_text,
    require_intact,
)
from videodpo.storage.schemas import PROMPTS
from videodpo.storage.tables import read_table, write_table


def written(folder, **changes):
    """A table of prompts."""
    row = {"prompt_id": "a", "prompt": "a red ring", "source": "s", "split": "train", "position": 0} | changes
    write_table(folder / "prompts.parquet", [row], PROMPTS, stage="prompts", digest="d", seed=0)
    return folder / "prompts.parquet"


def edited(folder):
    """The same table, edited by another program."""
    path = written(folder)
    pd.read_parquet(path).assign(prompt="a blue ring").to_parquet(path)
    return path


def test_sha256sum_reads_manifests(tmp_path):
    record_json(tmp_path / "a.json", {"a": 1})
    write_text(tmp_path / "parts" / "b.txt", "b")
    with product_path(tmp_path / "c.txt", [tmp_path / "parts" / "b.txt"]) as partial:
        partial.write_text("c")
    with product_folder(tmp_path / "adapter") as folder:
        write_text(folder / "d.txt", "d")
    names = [manifest_path(tmp_path / name).name for name in ("a.json", "c.txt", "adapter")]
    answer = subprocess.run(["sha256sum", "--check", "--strict", *names], cwd=tmp_path, check=True, capture_output=True)
    assert answer.stdout == b"a.json: OK\nc.txt: OK\nparts/b.txt: OK\nadapter/d.txt: OK\n"


def test_a_kill_while_a_file_is_replaced_leaves_no_wrong_manifest(tmp_path, monkeypatch):
    path, replace = tmp_path / "a.json", os.replace
    record_json(path, 1)

    def killed(source, target):
        if target == path:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr("videodpo.storage.files.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        record_json(path, 2)
    assert not manifest_path(path).exists()
    assert read_json(path) == 1


def test_two_files_that_were_swapped_with_their_times_are_damaged(tmp_path):
    for number in (0, 1):
        record_json(tmp_path / f"shard-{number}.json", number)
    (tmp_path / "shard-0.json").rename(tmp_path / "aside")
    (tmp_path / "shard-1.json").rename(tmp_path / "shard-0.json")
    (tmp_path / "aside").rename(tmp_path / "shard-1.json")
    for number in (0, 1):
        with pytest.raises(Damaged, match=rf"shard-{number}\.json: differs from what was written"):
            read_json(tmp_path / f"shard-{number}.json")


def test_a_file_without_a_manifest_is_read(tmp_path):
    (tmp_path / "a.json").write_text("3")
    assert read_json(tmp_path / "a.json") == 3


@pytest.mark.parametrize("content", ["x\n", "0" * 64 + "\n"])
def test_a_manifest_without_digests_is_damaged(tmp_path, content):
    record_json(tmp_path / "a.json", 1)
    manifest_path(tmp_path / "a.json").write_text(content)
    with pytest.raises(Damaged, match="no digest in the line"):
        require_intact(tmp_path / "a.json")


def test_a_file_is_checked_again_after_its_times_change(tmp_path):
    path = tmp_path / "a.json"
    record_json(path, 1)
    assert read_json(path) == 1
    path.write_text("2\n")
    with pytest.raises(Damaged):
        read_json(path)


def test_a_folder_with_an_additional_or_missing_file_is_damaged(tmp_path):
    with product_folder(tmp_path / "a") as folder:
        write_text(folder / "file", "x")
    assert fault(tmp_path / "a") is None
    (tmp_path / "a" / "other").write_text("y")
    assert fault(tmp_path / "a") == "a/other: differs from what was written"
    (tmp_path / "a" / "other").unlink()
    (tmp_path / "a" / "file").unlink()
    assert fault(tmp_path / "a") == "a/file: differs from what was written"


def test_an_edited_table_is_used_with_a_warning_that_names_it(tmp_path, caplog):
    path = edited(tmp_path)
    assert read_table(path).prompt.tolist() == ["a blue ring"]
    assert f"{path} was edited after its stage wrote it" in caplog.text


def test_outputs_of_an_edited_table_say_so(tmp_path):
    assert edited_inputs(written(tmp_path)) == {}
    note = edited_inputs(edited(tmp_path))["edited_inputs"]
    assert note.startswith("prompts.parquet ")


def test_an_edited_table_is_kept_as_a_copy_before_its_stage_overwrites_it(tmp_path):
    edited(tmp_path)
    written(tmp_path, prompt="a green ring")
    (copy,) = tmp_path.glob("prompts.edited-*.parquet")
    assert pd.read_parquet(copy).prompt.tolist() == ["a blue ring"]
    assert read_table(tmp_path / "prompts.parquet").prompt.tolist() == ["a green ring"]


def test_an_edit_of_another_table_is_damage(tmp_path):
    path = written(tmp_path).rename(tmp_path / "shard-00000.parquet")
    written(tmp_path)
    (tmp_path / ".shard-00000.parquet.sha256").write_text("0" * 64 + "  shard-00000.parquet\n")
    with pytest.raises(Damaged, match="videodpo verify"):
        read_table(path)


def test_damage_behind_a_link_is_named_with_the_run_that_made_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for run in ("results/owner", "results/other"):
        Path(run, "config").mkdir(parents=True)
    record_text(Path("results/owner/a.json"), "{}\n")
    for name in ("a.json", ".a.json.sha256"):
        Path("results/other", name).symlink_to(Path("../owner") / name)
    Path("results/owner/a.json").write_text("[]\n")
    with pytest.raises(Damaged, match=r"^results/other/a\.json: .*`videodpo verify results/owner --discard-damaged`"):
        require_intact(Path("results/other/a.json"))


def test_a_folder_whose_writer_fails_is_removed_and_the_old_one_stays(tmp_path):
    with product_folder(tmp_path / "a") as folder:
        write_text(folder / "file", "x")

    def fail():
        with product_folder(tmp_path / "a") as folder:
            write_text(folder / "file", "y")
            raise ValueError("fails")

    with pytest.raises(ValueError, match="fails"):
        fail()
    assert {path.name for path in tmp_path.iterdir()} == {"a", ".a.sha256"}
    assert fault(tmp_path / "a") is None
