"""Tables: schema, provenance, reproducible bytes, and errors that name the damage."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import videodpo
from videodpo import __version__
from videodpo.storage import schemas, tables
from videodpo.storage.schemas import PROMPTS, REFERENCE, SCORES, omniscore_schema
from videodpo.storage.tables import (
    ROW_GROUP,
    commit,
    read_metadata,
    read_prompts,
    read_rows,
    read_shards,
    read_table,
    shard_path,
    starts_of_runs,
    write_row_groups,
    write_table,
)

ROW = {"prompt_id": "0" * 16, "prompt": "a tram", "source": "text:p.txt", "split": "train", "position": 0}
SCORE = {"video_id": "p-0", "prompt_id": "p", "dimension": "d", "value": 0.5, "status": "ok", "scorer": "d v1"}
ERRORS = {"pair_id": 0, "visit": 0, "timestep": 10.0, "noise_seed": 1, "ref_error_winner": 0.1, "ref_error_loser": 0.2}


def save(path, rows, schema=PROMPTS, **extra):
    write_table(path, rows, schema, stage="prompts", digest="d" * 64, seed=3, extra=extra)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "table.parquet"


@pytest.mark.parametrize("kind", ["dicts", "frame"])
def test_rows_are_read_back_as_written(path, kind):
    rows = [ROW, ROW | {"prompt": "ein Straßenbahnzug 🚋", "position": 1}]
    save(path, rows if kind == "dicts" else pd.DataFrame(rows))
    assert read_rows(path) == rows


def test_column_types_are_the_schemas(path):
    save(path, [ERRORS], REFERENCE)
    assert pq.read_schema(path).remove_metadata().equals(REFERENCE)


def test_columns_are_written_in_the_schemas_order(path):
    save(path, pd.DataFrame([ROW])[["position", "split", "prompt", "source", "prompt_id"]])
    assert pq.read_schema(path).names == PROMPTS.names


def test_a_table_of_no_rows_keeps_its_columns(path):
    save(path, [])
    assert list(read_table(path).columns) == PROMPTS.names


def test_metadata_has_the_provenance(path):
    save(path, [ROW], shard="1")
    assert read_metadata(path) == {
        "schema_version": "1",
        "stage": "prompts",
        "package_version": __version__,
        "commit": commit(),
        "config_digest": "d" * 64,
        "seed": "3",
        "shard": "1",
    }


def test_commit_is_that_of_the_checkout():
    answer = subprocess.run(["git", "-C", tables.__file__.rpartition("/")[0], "rev-parse", "HEAD"], capture_output=True)
    assert commit().removesuffix("-dirty") == (answer.stdout.decode().strip() or "unknown")


def test_commit_of_edited_code_is_marked(tmp_path):
    package = tmp_path / "src" / "videodpo"
    shutil.copytree(Path(videodpo.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=all"]):
        subprocess.run([*git, *words], check=True)
    command = [sys.executable, "-c", "from videodpo.storage.tables import commit; print(commit())"]
    commits = []
    for _ in range(2):
        ended = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(package.parent)}, capture_output=True)
        commits.append(ended.stdout.decode().strip())
        with open(package / "__init__.py", "a", encoding="utf-8") as file:
            file.write("# edited\n")
    assert len(commits[0]) == 40
    assert commits[1] == f"{commits[0]}-dirty"


@pytest.mark.parametrize("kind", ["dicts", "frame"])
def test_the_same_rows_give_the_same_bytes(path, kind):
    rows = [ROW | {"position": number} for number in range(1000)]
    written = []
    for _ in range(2):
        save(path, rows if kind == "dicts" else pd.DataFrame(rows))
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_compressed_by_zstd_in_row_groups_of_64k(path):
    save(path, pd.DataFrame({name: [value] * 70_000 for name, value in ROW.items()}))
    file = pq.ParquetFile(path).metadata
    assert [file.row_group(k).num_rows for k in range(file.num_row_groups)] == [65536, 70_000 - 65536]
    assert file.row_group(0).column(0).compression == "ZSTD"


COUNT = 2 * ROW_GROUP + 1234


@pytest.fixture(scope="module")
def long_table() -> pa.Table:
    rng = np.random.default_rng(0)
    ids = [f"{number:016x}" for number in rng.permutation(COUNT)]
    columns = {"video_id": ids, "prompt_id": ids, "dimension": ["d"] * COUNT, "value": rng.random(COUNT)}
    columns |= {"status": ["ok"] * COUNT, "error": pa.nulls(COUNT, pa.string()), "scorer": ["d v1"] * COUNT}
    return pa.table(columns, schema=SCORES)


@pytest.mark.parametrize("step", [5000, ROW_GROUP, ROW_GROUP + 1])
def test_bytes_do_not_depend_on_the_chunks_of_the_columns(tmp_path, long_table, step):
    chunked = pa.concat_tables([long_table[start : start + step] for start in range(0, COUNT, step)])
    for name, table in (("one", long_table), ("many", chunked)):
        save(tmp_path / name, table, SCORES)
    assert (tmp_path / "many").read_bytes() == (tmp_path / "one").read_bytes()


@pytest.mark.parametrize("row", [0, ROW_GROUP, COUNT - 1])
def test_a_null_in_a_required_column_is_refused_at_any_position(tmp_path, long_table, row):
    ids = long_table["video_id"].to_pylist()
    ids[row] = None
    with pytest.raises(ValueError, match="'video_id' must have no nulls"):
        save(tmp_path / "scores", long_table.set_column(0, SCORES.field("video_id"), pa.array(ids)), SCORES)
    assert not list(tmp_path.iterdir())


def test_an_error_while_writing_leaves_no_file(path):
    save(path, [SCORE], SCORES)
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}

    def parts():
        yield pa.Table.from_pylist([SCORE], SCORES)
        raise KeyError

    with pytest.raises(KeyError):
        write_row_groups(path, parts(), SCORES, stage="score", digest="d", seed=0)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize("value", [None, math.nan])
@pytest.mark.parametrize("kind", ["dicts", "frame"])
def test_a_required_number_that_is_missing_is_refused(path, kind, value):
    rows = [ERRORS | {"timestep": value}]
    with pytest.raises(ValueError, match="timestep"):
        save(path, rows if kind == "dicts" else pd.DataFrame(rows), REFERENCE)
    assert not path.exists()


@pytest.mark.parametrize("kind", ["dicts", "frame"])
def test_a_column_that_the_schema_lacks_is_refused(path, kind):
    rows = [ROW | {"colour": "red"}]
    with pytest.raises(ValueError, match="colour"):
        save(path, rows if kind == "dicts" else pd.DataFrame(rows))


TABLES = {name: value for name, value in vars(schemas).items() if isinstance(value, pa.Schema)} | {
    "OMNISCORE": omniscore_schema(["d"])
}
OTHERS = [pa.array(["x"]), pa.array([1]), pa.array([0.5]), pa.array([True]), pa.array([[0.5]]), pa.array([{"a": 1}])]


@pytest.mark.parametrize("name", TABLES)
def test_a_table_with_a_wrong_column_type_is_refused_with_its_column(path, name):
    schema = TABLES[name]
    empty = schema.empty_table()
    refused = 0
    fields = [(place, field) for place, field in enumerate(schema) if field.name != "step"]
    for place, field in fields:
        for other in OTHERS:
            pq.write_table(empty.set_column(place, field.name, other[:0]), path)
            is_number = pa.types.is_integer(other.type) or pa.types.is_floating(other.type)
            wants_number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
            if other.type == field.type or (is_number and wants_number):
                read_table(path)
                continue
            refused += 1
            with pytest.raises(ValueError, match=rf"{path}: column '{field.name}' is .*; .* is needed"):
                read_table(path)
    assert refused >= 4 * len(fields)


def test_a_refused_table_leaves_the_old_one_alone(path):
    save(path, [ROW])
    before = path.read_bytes()
    with pytest.raises(ValueError, match="prompt"):
        save(path, [ROW | {"prompt": None}])
    assert path.read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == [f".{path.name}.sha256", path.name]


def test_only_requested_columns_are_read(path):
    save(path, [ROW])
    assert list(read_table(path, ["prompt"]).columns) == ["prompt"]


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "text", "folder"])
def test_an_unreadable_table_is_named(path, damage):
    save(path, [ROW])
    intact = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes({"empty": b"", "cut": intact[: len(intact) // 2], "text": b"prompt\na tram\n"}[damage])
    with pytest.raises(ValueError, match=str(path)):
        read_table(path)


def test_prompts_are_ordered_by_position(path):
    save(path, [ROW | {"prompt_id": name, "position": position} for name, position in (("b", 1), ("c", 2), ("a", 0))])
    assert read_prompts(path)["prompt_id"].to_pylist() == ["a", "b", "c"]


def test_runs_begin_where_the_id_changes():
    assert starts_of_runs(pa.chunked_array([["a"], ["a", "b"], ["b", "a"]])).tolist() == [0, 2, 4]
    assert starts_of_runs(pa.chunked_array([], pa.string())).tolist() == []


def test_omniscore_columns_follow_the_dimensions():
    names = omniscore_schema(["b", "a"]).names
    assert names[3:] == ["raw_b", "raw_a", "norm_b", "norm_a", "quality", "semantic", "omniscore"]


# --- shards


def _shards(folder, count, declared):
    for shard in range(count):
        save(shard_path(folder, shard), [ROW | {"position": shard}], num_shards=str(declared))


def test_shards_are_read_in_order(tmp_path):
    _shards(tmp_path, 12, 12)
    assert read_shards(tmp_path).position.tolist() == list(range(12))


def test_leftovers_of_a_larger_shard_count_are_ignored(tmp_path):
    _shards(tmp_path, 5, 5)
    _shards(tmp_path, 2, 2)
    assert len(read_shards(tmp_path)) == 2


def test_a_missing_shard_is_named(tmp_path):
    _shards(tmp_path, 3, 3)
    shard_path(tmp_path, 1).unlink()
    with pytest.raises(ValueError, match=r"shard-00001\.parquet"):
        read_shards(tmp_path)


def test_no_shards_at_all_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="run the stage that writes it first"):
        read_shards(tmp_path / "scores")
