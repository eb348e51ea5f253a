"""Parquet files of other programs: every encoding and type of text, within the limits."""

from __future__ import annotations

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from videodpo.config import Source
from videodpo.config.errors import InputError
from videodpo.stages.prompts.sources import read_rows
from videodpo.storage import parquet
from videodpo.storage.schemas import PROMPTS
from videodpo.storage.tables import read_arrow, read_table, write_table

TEXTS = ["a red dog"] * 4096 + [f"a dog at {number} o'clock" for number in range(6144)]
ENCODINGS = ["PLAIN", "RLE_DICTIONARY", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"]


def both_readers(path):
    """Read a file's texts as prompts and as a table of a run."""
    yield [row.text for row in read_rows(Source(kind="parquet", path=str(path)), 0)]
    table = read_arrow(path)
    assert table.schema.field("prompt").type == pa.string()
    yield table["prompt"].to_pylist()


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dtype", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_texts_of_every_type_are_read_in_every_encoding(tmp_path, dtype, encoding):
    column = {} if encoding == "RLE_DICTIONARY" else {"column_encoding": {"prompt": encoding}, "use_dictionary": False}
    table = pa.table({"prompt": pa.array([*TEXTS, None], dtype)})
    pq.write_table(table, tmp_path / "p.parquet", row_group_size=2048, **column)
    assert list(both_readers(tmp_path / "p.parquet")) == [[*TEXTS, None]] * 2


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("order", ["", "desc"])
def test_a_column_of_several_encodings_is_read(tmp_path, version, order):
    """DuckDB chooses an encoding per row group; v2 has delta encodings."""
    path = tmp_path / "p.parquet"
    rows = pa.table({"prompt": TEXTS, "number": range(len(TEXTS))})
    connection = duckdb.connect()
    connection.register("rows", rows)
    connection.execute(
        f"copy (select * from rows order by number {order}) to '{path}' "
        f"(format parquet, parquet_version {version}, row_group_size 2048)"
    )
    assert len({pq.read_metadata(path).row_group(group).column(0).encodings for group in range(5)}) > 1
    assert list(both_readers(path)) == [TEXTS[::-1] if order else TEXTS] * 2


def test_a_prompts_table_rewritten_by_another_program_is_used(tmp_path):
    path = tmp_path / "prompts.parquet"
    rows = [
        {"prompt_id": f"{number:016x}", "prompt": text, "source": "s", "split": "train", "position": number}
        for number, text in enumerate(TEXTS)
    ]
    write_table(path, rows, PROMPTS, stage="prompts", digest="d", seed=0)
    before = read_table(path)
    duckdb.sql(
        f"copy (select * from '{path}' order by position) to '{path}' "
        "(format parquet, parquet_version v2, row_group_size 2048)"
    )
    assert read_table(path).equals(before)


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "RLE_DICTIONARY"])
def test_a_text_repeated_by_pages_counts_each_time_for_the_limit(tmp_path, monkeypatch, encoding):
    column = {} if encoding == "RLE_DICTIONARY" else {"column_encoding": {"prompt": encoding}, "use_dictionary": False}
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"prompt": ["x" * 1000] * 5000}), path, **column)
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(parquet, "MAX_TEXT_BYTES", 2_000_000)
    with pytest.raises(InputError, match=r"p\.parquet: .*bytes of text"):
        read_arrow(path)


def test_a_file_without_rows_is_read(tmp_path):
    table = pa.table({"prompt": pa.array([], pa.string_view())})
    pq.write_table(table, tmp_path / "p.parquet", use_dictionary=False)
    assert list(both_readers(tmp_path / "p.parquet")) == [[]] * 2
