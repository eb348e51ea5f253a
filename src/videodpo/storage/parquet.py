"""Open and read Parquet files of any origin, within limits on memory."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from videodpo.config.errors import InputError

BATCH = 1024  # rows decoded at once if their texts may be far larger than the file
# Limits for every Parquet file, whoever wrote it.
MAX_ROWS = 20_000_000
MAX_TEXT_BYTES = 2 * 2**30  # over all columns, counting the text of every row
MAX_FOOTER = 16 * 2**20  # bytes; the footer describes columns and row groups


def open_file(path: Path) -> pa.NativeFile:
    """Open a Parquet file after checking the size of its footer: that of 10^6 columns takes gigabytes to read.

    Raises:
        OSError: the file is missing.
        InputError: the path is a folder, or the footer is too large; the message has the limit.
    """
    if path.is_dir():  # pyarrow would read every file in it, including leftovers of an earlier run
        raise InputError(f"{path}: is a folder; name one table in it")
    file = pa.OSFile(str(path))
    size = file.size()
    file.seek(max(0, size - 8))
    length = int.from_bytes(file.read(4), "little")
    if size > length > MAX_FOOTER:
        raise InputError(f"{path}: its footer has {length:,} bytes, {MAX_FOOTER:,} are allowed: too many columns")
    file.seek(0)
    return file


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file. Dictionary-encoded text stays encoded, because a page can repeat a text 10^9 times.

    Raises:
        OSError, pyarrow.ArrowException: the file is not readable.
        InputError: the path is a folder, or the table is too large; the message has the limit.
    """
    file = open_file(path)
    found = pq.read_metadata(file)
    if found.num_rows > MAX_ROWS:
        raise InputError(f"{path}: {found.num_rows:,} rows, {MAX_ROWS:,} are allowed; split it into several")
    return pq.ParquetFile(
        file,
        metadata=found,
        read_dictionary=_repeated_texts(found).as_dictionary,
        pre_buffer=False,
        page_checksum_verification=True,
    )


def read_parquet(file: pq.ParquetFile, path: Path, names: list[str] | None) -> pa.Table:
    """Read columns of an open file and decode their texts to plain strings.

    Args:
        file: the open file.
        path: its path, for messages.
        names: names of the columns; None reads all.

    Raises:
        InputError: the table has more text than is allowed.
    """
    if not _repeated_texts(file.metadata, names).in_full:
        # For one row group, starting threads takes longer than decoding.
        table = file.read(columns=names, use_threads=file.num_row_groups > 1)
    else:
        table = _read_bounded(file, path, names)
    return _plain(table, path)


class _RepeatedTexts(NamedTuple):
    """Text columns whose pages can repeat one text many times, grouped by how pyarrow reads them."""

    as_dictionary: set[str]
    in_full: set[str]
    """Columns with delta encodings, which pyarrow cannot read as a dictionary; DuckDB and Spark mix both encodings."""


def _repeated_texts(found: pq.FileMetaData, names: list[str] | None = None) -> _RepeatedTexts:
    columns = [k for k in range(found.num_columns) if found.schema.column(k).physical_type == "BYTE_ARRAY"]
    if names:
        columns = [k for k in columns if found.schema.column(k).path in names]
    texts = [found.row_group(group).column(k) for group in range(found.num_row_groups) for k in columns]
    delta = {chunk.path_in_schema for chunk in texts if any(name.startswith("DELTA") for name in chunk.encodings)}
    repeated = {c.path_in_schema for c in texts if c.has_dictionary_page or "DELTA_BYTE_ARRAY" in c.encodings}
    return _RepeatedTexts(repeated - delta, repeated & delta)


def _plain(table: pa.Table, path: Path) -> pa.Table:
    """Decode dictionary-encoded texts, or raise InputError if they would take too much memory."""
    encoded = [chunk for column in table.columns if pa.types.is_dictionary(column.type) for chunk in column.chunks]
    if sum(len(chunk) * chunk.dictionary.nbytes for chunk in encoded) > MAX_TEXT_BYTES:  # an upper bound
        lengths = (pc.take(pc.binary_length(chunk.dictionary), chunk.indices) for chunk in encoded)
        num_bytes = sum(pc.sum(pc.cast(each, pa.int64())).as_py() or 0 for each in lengths)
        if num_bytes > MAX_TEXT_BYTES:
            raise InputError(f"{path}: {num_bytes:,} bytes of text, {MAX_TEXT_BYTES:,} are allowed")
    fields = [field.with_type(_plain_type(field.type)) for field in table.schema]
    schema = pa.schema(fields, metadata=table.schema.metadata)
    return table if schema.equals(table.schema) else table.cast(schema)


def _plain_type(dtype: pa.DataType) -> pa.DataType:
    """Map each of Arrow's text types to the plain string type; keep other types."""
    if pa.types.is_dictionary(dtype):
        return _plain_type(dtype.value_type)
    return pa.string() if dtype in (pa.large_string(), pa.string_view()) else dtype


def _read_bounded(file: pq.ParquetFile, path: Path, names: list[str] | None) -> pa.Table:
    batches: list[pa.RecordBatch] = []
    num_bytes = 0
    for batch in file.iter_batches(BATCH, columns=names):
        num_bytes += batch.nbytes
        if num_bytes > MAX_TEXT_BYTES:
            raise InputError(f"{path}: more than {MAX_TEXT_BYTES:,} bytes of text, which are allowed")
        batches.append(batch)
    return pa.Table.from_batches(batches).combine_chunks() if batches else file.read(columns=names)
