"""The manifest of a folder's shards changes if any shard changes, and only then."""

from __future__ import annotations

import json

import pytest
import torch

from videodpo.cli import main
from videodpo.storage.schemas import PROMPTS
from videodpo.storage.shard_list import write_shard_list
from videodpo.storage.tables import shard_path, write_table
from videodpo.storage.tensors import write_tensors

ROW = {"prompt_id": "0" * 16, "prompt": "a tram", "source": "text:p.txt", "split": "train"}


def save(folder, shard, position=0, latents=0.0):
    rows, extra = [ROW | {"position": position}], {"num_shards": "2"}
    tensors = folder / "latents" / f"shard-{shard:05d}.safetensors"
    write_tensors(tensors, {"0": torch.full((2,), latents)})
    about = {"stage": "prompts", "digest": "d", "seed": 0, "extra": extra, "alongside": [tensors]}
    write_table(shard_path(folder, shard), rows, PROMPTS, **about)


@pytest.fixture
def folder(tmp_path):
    for shard in range(2):
        save(tmp_path, shard)
    return tmp_path


def listed(folder):
    assert main(["list-shards", str(folder / "shards.json")]) == 0
    return json.loads((folder / "shards.json").read_text(encoding="utf-8"))


def test_the_list_names_tables_and_tensors(folder):
    names = ["shard-00000.parquet", "shard-00001.parquet"]
    assert list(listed(folder)) == [f"latents/shard-0000{shard}.safetensors" for shard in range(2)] + names


def test_the_same_shards_give_the_same_list(folder):
    before = listed(folder)
    save(folder, 1)  # written again, the same bytes
    save(folder, 7)  # left over from a larger shard count
    assert listed(folder) == before


@pytest.mark.parametrize("shard", [0, 1])
def test_another_table_gives_another_list(folder, shard):
    before = listed(folder)
    save(folder, shard, position=5)
    assert listed(folder) != before


def test_the_list_depends_on_the_tensors(folder):
    before = listed(folder)
    save(folder, 1, latents=0.0)
    assert listed(folder) == before
    save(folder, 1, latents=1.0)
    assert listed(folder) != before


def test_a_missing_shard_is_named(folder):
    shard_path(folder, 1).unlink()
    with pytest.raises(FileNotFoundError, match="shard-00001"):
        write_shard_list(folder / "shards.json")


def test_a_folder_without_shards_is_refused(tmp_path, capsys):
    assert main(["list-shards", str(tmp_path / "shards.json")]) == 1
    assert "no shard-00000.parquet" in capsys.readouterr().err
