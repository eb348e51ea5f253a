"""Query the tables of a run with SQL, through DuckDB, and print or save the answer."""

from __future__ import annotations

import csv
import json
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import pyarrow as pa
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from videodpo.config.errors import InputError
from videodpo.storage.files import first_line, printable
from videodpo.storage.tables import write_plain
from videodpo.tools.tables import Part, connect, find_tables

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Format: TypeAlias = Literal["table", "csv", "json"]
_FETCHED = 10_000  # rows
_MOST_ROWS = 200  # printed as a table
_WIDE = 100_000  # characters: without a terminal, no row is wrapped


def print_tables(run: Path, round_number: int | None = None) -> None:
    """Print name, number of rows and columns of each table; errors as `find_tables`."""
    tables = find_tables(run, round_number)
    database = connect(tables)
    rows: list[tuple[Any, ...]] = []
    for name in sorted(tables):
        with _clear_errors(database, tables, name):
            (count,) = database.execute(f'SELECT count(*) FROM "{name}"').fetchall()[0]
            rows.append((name, count, ", ".join(_columns(database, name))))
    _print_table(["table", "rows", "columns"], rows)


def query(run: Path, text: str, round_number: int | None = None, *, out: Path | None = None, to: Format) -> None:
    """Print or save the answer to a query.

    Args:
        run: folder of the run.
        text: one SELECT statement.
        round_number: as for `find_tables`.
        out: Parquet file to write instead of printing.
        to: how to print.

    Raises:
        InputError: the query is not valid, is not one SELECT, or names a table or column that does not exist; the
            message lists those that do. Or `out` is a folder, or in the run's folder.
    """
    if out and out.is_dir():
        raise InputError(f"--out: {out} is a folder; name a file")
    if out and out.resolve().is_relative_to(run.resolve()):
        raise InputError(f"--out: {out} is in the folder of the run, which is only read; name a file outside of it")
    tables = find_tables(run, round_number)
    database = connect(tables)
    with _clear_errors(database, tables, text):
        _require_select(text)
        if out:
            write_plain(out, pa.RecordBatchReader.from_stream(database.sql(text)))
            return
        database.execute(text)
        names = [column[0] for column in database.description or ()]
        if to == "table":
            _print_table(names, database.fetchmany(_MOST_ROWS))
            if database.fetchone():
                print(f"only the first {_MOST_ROWS} rows; --csv, --json and --out FILE.parquet give all")
            return
        writer = csv.writer(sys.stdout, lineterminator="\n")
        if to == "csv":
            writer.writerow(names)
        while rows := database.fetchmany(_FETCHED):
            if to == "csv":
                writer.writerows(rows)
            else:
                for row in rows:
                    print(json.dumps(dict(zip(names, map(_plain, row), strict=True)), default=str, allow_nan=False))


def _require_select(text: str) -> None:
    import duckdb

    statements = duckdb.extract_statements(text)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise InputError("give one SELECT statement; the tables are only read")


@contextmanager
def _clear_errors(database: DuckDBPyConnection, tables: dict[str, list[Part]], text: str) -> Iterator[None]:
    """Turn DuckDB's errors into one sentence that names the tables, or the columns of the tables in the query."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        named = [name for name in tables if re.search(rf"\b{name}\b", text, flags=re.IGNORECASE)]
        if isinstance(error, duckdb.BinderException) and named:
            known = "; ".join(f"columns of {name}: {', '.join(_columns(database, name))}" for name in named)
        else:
            known = f"tables: {', '.join(sorted(tables))}"
        raise InputError(f"{first_line(error).rstrip('!')}; {known}") from error


def _columns(database: DuckDBPyConnection, name: str) -> list[str]:
    return [str(row[0]) for row in database.execute(f'DESCRIBE "{name}"').fetchall()]


def _print_table(names: list[str], rows: list[tuple[Any, ...]]) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for place, name in enumerate(names):
        numeric = all(isinstance(row[place], int | float | None) for row in rows)
        table.add_column(Text(printable(name)), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    return f"{value:.6g}" if isinstance(value, float) else printable(str(value))


def _plain(value: Any) -> Any:
    """A value as JSON has it: fractions that are not finite become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
