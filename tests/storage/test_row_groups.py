"""Row groups: the same bytes however the rows arrive; what can be known of a column without decoding it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from videodpo.storage.row_groups import ROW_GROUP, RowGroups, read_parts
from videodpo.storage.schemas import SCORES
from videodpo.storage.tables import table_writer

COUNT = 2 * ROW_GROUP + 1234


@pytest.fixture(scope="module")
def scores() -> pa.Table:
    rng = np.random.default_rng(0)
    ids = [f"{number // 4:016x}" for number in rng.permutation(COUNT)]
    columns = {
        "video_id": [f"{name}-{number % 4}" for number, name in enumerate(ids)],
        "prompt_id": ids,
        "dimension": ["sharpness"] * COUNT,
        "value": rng.random(COUNT),
        "status": ["ok"] * COUNT,
        "error": pa.nulls(COUNT, pa.string()),
        "scorer": ["sharpness v1"] * COUNT,
    }
    return pa.table(columns, schema=SCORES)


def with_column(table, name, values):
    place = table.column_names.index(name)
    return table.set_column(place, SCORES.field(name), pa.array(values, SCORES.field(name).type))


def save(path, table, *cuts, schema=SCORES, **metadata):
    with table_writer(path, schema, stage="score", digest="d", seed=0) as writer:
        for start, stop in zip((0, *cuts), (*cuts, len(table)), strict=True):
            writer.write(table[start:stop])
        writer.metadata |= metadata
    return path


@pytest.mark.parametrize("cuts", [(1,), (ROW_GROUP,), (ROW_GROUP + 1, ROW_GROUP + 1), tuple(range(7, COUNT, 5000))])
def test_bytes_do_not_depend_on_how_rows_arrive(tmp_path, scores, cuts):
    whole, parts = save(tmp_path / "whole", scores), save(tmp_path / "parts", scores, *cuts)
    assert parts.read_bytes() == whole.read_bytes()


def test_rows_come_back_group_by_group(tmp_path, scores):
    path = save(tmp_path / "scores", scores)
    parts = list(read_parts(path, ["video_id", "value"]))
    assert [len(part) for part in parts] == [ROW_GROUP, ROW_GROUP, COUNT - 2 * ROW_GROUP]
    assert pa.concat_tables(parts).equals(scores.select(["video_id", "value"]))


def test_metadata_may_come_last_and_every_reader_finds_it(tmp_path, scores):
    path = save(tmp_path / "scores", scores[:5], num_left_out="3")
    assert pq.read_schema(path).metadata[b"num_left_out"] == b"3"
    assert pq.read_schema(path).remove_metadata().equals(SCORES)


def _interrupted(path, table):
    with table_writer(path, SCORES, stage="score", digest="d", seed=0) as writer:
        writer.write(table)
        raise KeyError


def test_nothing_is_left_of_a_table_whose_block_raises(tmp_path, scores):
    save(tmp_path / "scores", scores[:5])
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(KeyError):
        _interrupted(tmp_path / "scores", scores)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("row", [0, ROW_GROUP, COUNT - 1])
def test_a_gap_in_a_required_column_is_refused_wherever_it_lies(tmp_path, scores, row):
    ids = scores["video_id"].to_pylist()
    ids[row] = None
    with pytest.raises(ValueError, match="'video_id' must have no nulls"):
        save(tmp_path / "scores", with_column(scores, "video_id", ids), 70_000)
    assert not list(tmp_path.iterdir())


def test_a_column_of_one_value_is_known_without_reading_it(tmp_path, scores):
    two = ["ok"] * (COUNT - 1) + ["failed"]
    groups = RowGroups(save(tmp_path / "scores", with_column(scores, "status", two)))
    assert [groups.only(number, "status") for number in range(3)] == ["ok", "ok", None]
    assert groups.only(0, "error") is None  # all nulls


def test_stored_columns_are_the_same_where_their_values_are(tmp_path, scores):
    first = RowGroups(save(tmp_path / "first", scores))
    other = with_column(scores, "value", np.zeros(COUNT))
    second = RowGroups(save(tmp_path / "second", other, 99))
    for number in range(3):
        assert first.stored(number, "video_id") == second.stored(number, "video_id")
        assert first.stored(number, "value") != second.stored(number, "value")


def test_a_column_that_is_not_there_is_named_with_its_file(tmp_path, scores):
    groups = RowGroups(save(tmp_path / "scores", scores[:5]))
    with pytest.raises(ValueError, match=r"scores.*colour"):
        groups.only(0, "colour")
