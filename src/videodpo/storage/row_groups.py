"""Parquet a row group at a time: written with the same bytes however the rows arrive, read without holding a table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from videodpo.config.errors import InputError
from videodpo.storage.files import first_line
from videodpo.storage.manifests import product_path, require_intact
from videodpo.storage.schemas import refuse_other_types

ROW_GROUP = 65536  # rows
MAX_FOOTER = 16 * 2**20  # bytes of the description of columns and row groups, whoever wrote them


@contextmanager
def row_group_writer(path: Path, schema: pa.Schema, alongside: Sequence[Path] = ()) -> Iterator[RowGroupWriter]:
    """Write one table atomically, part by part: nothing is left of it where the block raises.

    Raises:
        ValueError: a part's columns differ from the schema, or a required column has a null or NaN.
    """
    # Without Arrow's own copy of the schema, so that metadata can come last; every type here is one of Parquet's.
    with (
        product_path(path, alongside) as partial,
        pq.ParquetWriter(partial, schema, store_schema=False, **_storage(schema)) as file,
    ):
        with ThreadPoolExecutor(1) as background:
            writer = RowGroupWriter(path.name, file, schema, background)
            yield writer
            writer._finish()
        file.add_key_value_metadata(writer.metadata)


class RowGroupWriter:
    """Parts of one table into row groups of a fixed size: the bytes do not tell how the rows were cut into parts."""

    def __init__(self, name: str, file: pq.ParquetWriter, schema: pa.Schema, background: ThreadPoolExecutor) -> None:
        self.metadata: dict[str, str] = {}
        """Written at the end."""
        self._name, self._file, self._schema, self._background = name, file, schema, background
        self._waiting: list[pa.Table] = []
        self._behind: Future[None] | None = None

    def write(self, rows: pa.Table) -> None:
        """Append rows: one row group is encoded, on a thread of its own, while the next is made."""
        self._waiting.append(rows)
        if sum(part.num_rows for part in self._waiting) < ROW_GROUP:
            return
        whole = pa.concat_tables(self._waiting)
        end = whole.num_rows // ROW_GROUP * ROW_GROUP
        for start in range(0, end, ROW_GROUP):
            self._submit(whole.slice(start, ROW_GROUP))
        self._waiting = [whole.slice(end)]

    def _submit(self, rows: pa.Table) -> None:
        if self._behind:
            self._behind.result()
        self._behind = self._background.submit(self._encode, rows)

    def _encode(self, rows: pa.Table) -> None:
        for field in self._schema:
            column = rows[field.name]
            if not field.nullable and _has_gaps(column):
                raise InputError(f"{self._name}: column {field.name!r} must have no nulls or NaN")
            if pa.types.is_floating(field.type) and pc.any(pc.invert(pc.is_finite(column))).as_py():
                raise InputError(f"{self._name}: column {field.name!r} must have no NaN or infinite values")
        # In one piece: where pages end follows from how a column lies in memory.
        self._file.write_table(rows.combine_chunks(), row_group_size=ROW_GROUP)

    def _finish(self) -> None:
        if any(part.num_rows for part in self._waiting):
            self._submit(pa.concat_tables(self._waiting))
        if self._behind:
            self._behind.result()


class RowGroups:
    """One table, its row groups by number; errors as `readable`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        require_intact(path)
        with readable(path):
            refuse_large_footer(path)
            self._source = pa.OSFile(str(path))
            self._file = pq.ParquetFile(self._source)
        refuse_other_types(path, self._file.schema_arrow)
        self._columns = {name: index for index, name in enumerate(self._file.schema_arrow.names)}

    def __len__(self) -> int:
        return int(self._file.num_row_groups)

    def read(self, number: int, columns: Sequence[str]) -> pa.Table:
        with readable(self.path):
            # Handing a few columns to threads takes longer than decoding them.
            return self._file.read_row_group(number, columns=list(columns), use_threads=False)

    def num_rows(self, number: int) -> int:
        return int(self._file.metadata.row_group(number).num_rows)

    def only(self, number: int, column: str) -> Any:
        """The one value that a column has throughout; None where it has nulls or several, or where nobody counted."""
        found = self._column(number, column).statistics
        if found is None or not found.has_min_max or not found.has_null_count or found.null_count:
            return None
        return found.min if found.min == found.max else None

    def stored(self, number: int, column: str) -> tuple[str, bytes]:
        """A column as it lies in the file: where two are the same, so are their values, at the price of no decoding."""
        found = self._column(number, column)
        start = found.dictionary_page_offset or found.data_page_offset
        how = f"{found.physical_type} {found.compression} {found.encodings}"
        return how, self._source.read_at(found.total_compressed_size, start)

    def _column(self, number: int, column: str) -> Any:
        if column not in self._columns:
            raise InputError(f"{self.path}: no column {column!r}")
        return self._file.metadata.row_group(number).column(self._columns[column])


def read_parts(path: Path, columns: Sequence[str]) -> Iterator[pa.Table]:
    """One table, a row group at a time; errors as `readable`."""
    groups = RowGroups(path)
    for number in range(len(groups)):
        yield groups.read(number, columns)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Names the table in what pyarrow says of it.

    Raises:
        ValueError: the file is missing, cut or no Parquet, or it lacks a column.
    """
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable table ({first_line(error)})") from error


def refuse_large_footer(path: Path) -> None:
    """Before it is read: 10^6 columns take gigabytes.

    Raises:
        OSError: the file is missing.
        ValueError: a folder, or more columns and row groups than a table has; the message has the limit.
    """
    if path.is_dir():  # pyarrow would read whatever lies in it, leftovers of an earlier plan too
        raise InputError(f"{path}: a folder; name one table in it")
    with open(path, "rb") as handle:
        handle.seek(-min(8, handle.seek(0, os.SEEK_END)), os.SEEK_END)
        length = int.from_bytes(handle.read(4), "little")
    if path.stat().st_size > length > MAX_FOOTER:
        raise InputError(f"{path}: its footer has {length:,} bytes, {MAX_FOOTER:,} are allowed: too many columns")


def _has_gaps(column: pa.ChunkedArray) -> bool:
    if column.null_count:
        return True
    return pa.types.is_floating(column.type) and bool(pc.any(pc.is_nan(column)).as_py())


def _storage(schema: pa.Schema) -> dict[str, Any]:
    """How columns are stored: words that come again in a dictionary; fractions, which hardly do, byte by byte.

    Ids and fractions in a dictionary take half as much room again, and twice the time to write.
    """
    fractions = [field.name for field in schema if pa.types.is_floating(field.type)]
    ids = [field.name for field in schema if field.name.endswith("_id") and field.type == pa.string()]
    return {
        "compression": "zstd",
        "use_dictionary": [name for name in schema.names if name not in (*fractions, *ids)],
        "column_encoding": dict.fromkeys(fractions, "BYTE_STREAM_SPLIT"),
    }
