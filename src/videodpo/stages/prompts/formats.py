"""Read files as records, one at a time, with errors that name the line."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from videodpo.config import ConfigError
from videodpo.stages.prompts.text_files import MAX_LINE, read_text, refuse_other_file
from videodpo.storage.files import first_line

Record = tuple[int, tuple[Any, ...]]  # 0-based row of the source, and its values in the order of the requested columns

BATCH = 4096  # rows in memory at once, for formats that are read in batches


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, each with its 0-based number and without its line end.

    Raises:
        ConfigError: not readable, or not UTF-8.
    """
    for number, line in enumerate(read_text(path)):
        if line.strip():
            yield number, line.rstrip("\r\n")


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """Yield the rows of a comma-separated file with a header; all values are text.

    Raises:
        ConfigError: not readable, not UTF-8, a column is missing, or a row does not fit the header.
    """
    csv.field_size_limit(MAX_LINE)  # Python's own limit is 128 KiB
    reader = csv.reader(read_text(path), strict=True)
    try:
        header = next(reader, [])
        need_columns(path.name, columns, header)
        places = [header.index(name) for name in columns]
        for number, row in enumerate(filter(None, reader)):
            if len(row) != len(header):
                raise ConfigError(
                    f"prompts.source.path: {path.name}, line {reader.line_num}: {len(row)} fields where the header has "
                    f"{len(header)}; put quotes around prompts that contain a comma"
                )
            yield number, tuple(row[place] for place in places)
    except csv.Error as error:
        raise ConfigError(
            f"prompts.source.path: {path.name}, line {reader.line_num}: not valid CSV ({error}); "
            "double each quote inside a quoted prompt"
        ) from error


def read_jsonl(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """Yield the objects of a file with one JSON object per line.

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
        yield number, tuple(record[name] for name in columns)


def read_parquet(path: Path, columns: Sequence[str]) -> Iterator[Record]:
    """Yield the rows of a Parquet file, read in batches so that memory does not grow with the file.

    Raises:
        ConfigError: not readable as Parquet, or a column is missing or holds no text.
        InputError: larger than `storage.parquet` allows.
    """
    import pyarrow as pa

    from videodpo.storage.parquet import open_parquet

    try:
        with open_parquet(path) as file:
            need_columns(path.name, columns, file.schema_arrow.names)
            batches = file.iter_batches(batch_size=BATCH, columns=list(columns))
            texts = ([_texts(batch.column(name), name, path) for name in columns] for batch in batches)
            yield from enumerate(row for columns_of_batch in texts for row in zip(*columns_of_batch, strict=True))
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        if path.is_file():
            refuse_other_file(path)
        raise ConfigError(f"prompts.source.path: {path}: not readable as Parquet ({first_line(error)})") from error


def _texts(column: Any, name: str, path: Path) -> list[str | None]:
    import pyarrow as pa

    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if kind not in (pa.string(), pa.large_string(), pa.string_view(), pa.null()):
        raise ConfigError(f"prompts.source.column: {name!r} of {path.name} is {kind}; text is needed")
    texts: list[str | None] = column.to_pylist()
    return texts


def need_columns(where: str, columns: Sequence[str], there: Sequence[str]) -> None:
    """Raise ConfigError if one of the columns is missing or exists twice."""
    for name in columns:
        if there.count(name) > 1:
            raise ConfigError(f"prompts.source.column: {where} has {there.count(name)} columns {name!r}; rename one")
        if name not in there:
            raise ConfigError(
                f"prompts.source.column: no {name!r} in {where}; it has: {', '.join(map(repr, there)) or 'none'}"
            )
