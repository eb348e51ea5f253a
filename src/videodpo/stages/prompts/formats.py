"""Read files as records, one at a time, with errors that name the line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from videodpo.config import ConfigError
from videodpo.stages.prompts.text_files import MAX_LINE, read_text, refuse_other_file
from videodpo.storage.files import first_line

Record = tuple[int, tuple[Any, ...]]  # 0-based row of the source, and its values in the order of the requested columns

PACKED = (".gz", ".zst")
BATCH = 4096  # rows in memory at once, for formats that are read in batches


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, each with its 0-based number and without its line end.

    Raises:
        ConfigError: not readable, or not UTF-8.
    """
    for number, line in enumerate(read_text(path)):
        if line.strip():
            yield number, line.rstrip("\r\n")


def read_csv(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Record]:
    """Yield the rows of a comma-separated file with a header; all values are text.

    Args:
        path: the file.
        columns: the requested columns.
        optional: further columns, whose values are None if the file does not have them.

    Raises:
        ConfigError: not readable, not UTF-8, a column is missing, or a row does not fit the header.
    """
    csv.field_size_limit(MAX_LINE)  # Python's own limit is 128 KiB
    reader = csv.reader(read_text(path), strict=True)
    try:
        header = next(reader, [])
        need_columns(path.name, columns, header)
        places = [header.index(name) if name in header else None for name in (*columns, *optional)]
        for number, row in enumerate(filter(None, reader)):
            if len(row) != len(header):
                raise ConfigError(
                    f"prompts.source.path: {path.name}, line {reader.line_num}: {len(row)} fields where the header has "
                    f"{len(header)}; put quotes around prompts that contain a comma"
                )
            yield number, tuple(None if place is None else row[place] for place in places)
    except csv.Error as error:
        raise ConfigError(
            f"prompts.source.path: {path.name}, line {reader.line_num}: not valid CSV ({error}); "
            "double each quote inside a quoted prompt"
        ) from error


def read_jsonl(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Record]:
    """Yield the objects of a file with one JSON object per line. Args: as `read_csv`.

    Raises:
        ConfigError: not readable, not UTF-8, or a line is not a JSON object or lacks a column.
    """
    for number, line in read_lines(path):
        where = f"{path.name}, line {number + 1}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(
                f"prompts.source.path: {where}: not valid JSON ({error}); each line holds one JSON object"
            ) from error
        if not isinstance(record, dict):
            raise ConfigError(
                f"prompts.source.path: {where}: is a {type(record).__name__}; each line must hold one object"
            )
        need_columns(where, columns, list(record))
        yield number, tuple(record.get(name) for name in (*columns, *optional))


def read_parquet(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Record]:
    """Yield the rows of a Parquet file, read in batches so that memory does not grow with the file.

    Args: as `read_csv`.

    Raises:
        ConfigError: not readable as Parquet, or a column is missing.
        InputError: larger than `storage.parquet` allows.
    """
    import pyarrow as pa

    from videodpo.storage.parquet import open_parquet

    try:
        with open_parquet(path) as file:
            there = file.schema_arrow.names
            need_columns(path.name, columns, there)
            found = [name for name in (*columns, *optional) if name in there]
            batches = file.iter_batches(batch_size=BATCH, columns=found)
            yield from rows_of((batch.to_pydict() for batch in batches), (*columns, *optional))
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        if path.is_file():
            refuse_other_file(path)
        raise ConfigError(f"prompts.source.path: {path}: not readable as Parquet ({first_line(error)})") from error


def read_table_file(path: Path, columns: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Record]:
    """Yield the rows of a list of clips or pairs, in the format that its suffix names. Args: as `read_csv`.

    Raises:
        ConfigError: the file has an unknown suffix, or it cannot be read.
    """
    suffix = (path.with_suffix("") if path.suffix.lower() in PACKED else path).suffix.lower()
    if suffix not in _READERS:
        raise ConfigError(
            f"prompts.source.path: {path.name}: a list of clips ends in {', '.join(_READERS)}, or these with "
            f"{' or '.join(PACKED)}; the kind 'pairs' also takes a folder that exists"
        )
    return _READERS[suffix](path, columns, optional)


_READERS = {".csv": read_csv, ".jsonl": read_jsonl, ".parquet": read_parquet}


def rows_of(batches: Iterable[Mapping[str, Sequence[Any]]], columns: Sequence[str]) -> Iterator[Record]:
    """Yield the rows of batches of columns; a missing column has None in every row."""
    number = 0
    for batch in batches:
        size = len(next(iter(batch.values())))
        for row in zip(*(batch.get(name, [None] * size) for name in columns), strict=True):
            yield number, row
            number += 1


def need_columns(where: str, columns: Sequence[str], there: Sequence[str]) -> None:
    """Raise ConfigError if one of the columns is missing or exists twice."""
    for name in columns:
        if there.count(name) > 1:
            raise ConfigError(f"prompts.source.column: {where} has {there.count(name)} columns {name!r}; rename one")
        if name not in there:
            raise ConfigError(
                f"prompts.source.column: no {name!r} in {where}; it has: {', '.join(map(repr, there)) or 'none'}"
            )
