"""Read Parquet tables and write them atomically; the only module that does."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from videodpo import __version__
from videodpo.config.errors import InputError
from videodpo.storage.files import atomic_path, first_line
from videodpo.storage.manifests import damaged, is_editable, is_edited, product_path, require_intact
from videodpo.storage.parquet import open_file, open_parquet, read_parquet
from videodpo.storage.schemas import CLIP_SIZE, ClipSize, needed_columns, refuse_other_types

T = TypeVar("T")

SCHEMA_VERSION = "1"
ROW_GROUP = 65536  # rows
READERS = 2  # threads that open and decode shards


@functools.cache
def commit() -> str:
    """Commit of the package's checkout, with `-dirty` if `src` has uncommitted changes.

    Returns:
        The commit; "unknown" for an installed package, or without git.
    """
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists() or not shutil.which("git"):
        return "unknown"
    found = _git(root, "rev-parse", "HEAD")
    changed = found and _git(root, "status", "--porcelain", "--untracked-files=normal", "--", "src")
    return f"{found}-dirty" if changed else found or "unknown"


def _git(root: Path, *arguments: str) -> str:
    answer = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(root), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return answer.stdout.strip()


def write_table(
    path: Path,
    rows: pd.DataFrame | pa.Table | Sequence[Mapping[str, Any]],
    schema: pa.Schema,
    *,
    stage: str,
    digest: str,
    seed: int,
    extra: Mapping[str, str] | None = None,
    alongside: Sequence[Path] = (),
) -> None:
    """Write one table atomically; the same rows give the same bytes.

    Args:
        path: final path.
        rows: a data frame, an Arrow table or a list of row dicts, already in their final order.
        schema: a schema of the module `schemas`.
        stage: provenance, stored in the file's metadata, as are the next two.
        digest: digest of the settings.
        seed: seed of the run.
        extra: additional metadata, for example the shard.
        alongside: finished files that belong to the table; its manifest lists them too.

    Raises:
        InputError: columns differ from the schema, a number is not finite, or a required column has a null.
    """
    if isinstance(rows, pd.DataFrame):
        if set(rows.columns) != set(schema.names):
            raise InputError(f"{path.name}: columns {sorted(rows.columns)} are not {sorted(schema.names)}")
        table = pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False)
    elif isinstance(rows, pa.Table):
        table = rows
    else:
        if unknown := sorted({name for row in rows for name in row} - set(schema.names)):
            raise InputError(f"{path.name}: columns {unknown} are not among {sorted(schema.names)}")
        table = pa.Table.from_pylist(list(rows), schema=schema)
    about: dict[str, Any] = {"stage": stage, "digest": digest, "seed": seed, "extra": extra, "alongside": alongside}
    write_row_groups(path, row_groups(table), schema, **about)


def write_row_groups(
    path: Path,
    parts: Iterable[pa.Table],
    schema: pa.Schema,
    *,
    stage: str,
    digest: str,
    seed: int,
    extra: Mapping[str, str] | None = None,
    alongside: Sequence[Path] = (),
) -> None:
    """Write one table atomically, one row group at a time; see `write_table` for the other arguments and the errors.

    Args:
        parts: parts as cut by `row_groups`, so that the same rows give the same bytes; a lazy iterator is fine.
    """
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "stage": stage,
        "package_version": __version__,
        "commit": commit(),
        "config_digest": digest,
        "seed": str(seed),
        **(extra or {}),
    }
    with (
        product_path(path, alongside) as partial,
        pq.ParquetWriter(partial, schema, store_schema=False, **_encodings(schema)) as file,
        ThreadPoolExecutor(1) as encoder,
    ):
        encoding: Future[None] | None = None
        for part in parts:  # the next part is computed while this one is encoded
            _refuse_gaps(part, schema, path.name)
            part = part.combine_chunks()  # page boundaries depend on the memory layout
            if encoding:
                encoding.result()
            encoding = encoder.submit(file.write_table, part, row_group_size=ROW_GROUP)
        if encoding:
            encoding.result()
        file.add_key_value_metadata(metadata)


def write_plain(path: Path, batches: pa.RecordBatchReader) -> None:
    """Write a table for the user atomically, without the metadata and the manifest of a stage's table."""
    with atomic_path(path) as partial, pq.ParquetWriter(partial, batches.schema, compression="zstd") as file:
        for batch in batches:
            file.write_batch(batch)


def row_groups(table: pa.Table, chosen: NDArray[np.bool_] | None = None) -> Iterator[pa.Table]:
    """Cut the chosen rows of a table, by default all, into parts of `ROW_GROUP` rows; the last part may be shorter."""
    rows = np.arange(table.num_rows) if chosen is None else np.flatnonzero(chosen)
    for start in range(0, len(rows), ROW_GROUP):
        first, last = rows[start], rows[min(start + ROW_GROUP, len(rows)) - 1]
        part = table.slice(first, last - first + 1)
        yield part if chosen is None else part.filter(pa.array(chosen[first : last + 1]))


def _refuse_gaps(rows: pa.Table, schema: pa.Schema, name: str) -> None:
    for field in schema:
        column = rows[field.name]
        if not field.nullable and column.null_count:
            raise InputError(f"{name}: column {field.name!r} must have no nulls")
        if pa.types.is_floating(field.type) and pc.any(pc.invert(pc.is_finite(column))).as_py():
            raise InputError(f"{name}: column {field.name!r} must have no NaN or infinite values")


def _encodings(schema: pa.Schema) -> dict[str, Any]:
    """Parquet options: BYTE_STREAM_SPLIT for floats, plain encoding for ids, a dictionary for all other columns.

    Ids and floats hardly repeat. With a dictionary, they would take 1.5 times the space and twice the time to write.
    """
    floats = [field.name for field in schema if pa.types.is_floating(field.type)]
    ids = [field.name for field in schema if field.name.endswith("_id") and field.type == pa.string()]
    return {
        "compression": "zstd",
        "write_page_checksum": True,
        "use_dictionary": [name for name in schema.names if name not in (*floats, *ids)],
        "column_encoding": dict.fromkeys(floats, "BYTE_STREAM_SPLIT"),
    }


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read one table.

    Raises:
        InputError: the file is missing, damaged or not Parquet; the message names it.
    """
    frame: pd.DataFrame = read_arrow(path, columns).to_pandas()
    return frame


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Read one dict per row, in the form that `write_table` takes, with nulls as None; errors as `read_table`."""
    rows: list[dict[str, Any]] = read_arrow(path, columns).to_pylist()
    return rows


def read_arrow(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one table for arithmetic on its columns; errors as `read_table`."""
    with open_table(path) as file:
        return read_columns(file, path, columns)


def read_columns(file: pq.ParquetFile, path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read columns of an open table; errors as `read_table`."""
    if lacking := [name for name in columns or () if name not in file.schema_arrow.names]:
        raise InputError(f"{path}: no column {lacking[0]!r} in it; re-run the stage that writes it")
    return read_parquet(file, path, list(columns) if columns else None)


@contextmanager
def open_table(path: Path) -> Iterator[pq.ParquetFile]:
    """Check one table and open it; errors as `read_table`."""
    require_intact(path)
    with readable(path), open_parquet(path) as file:
        refuse_other_types(path, file.schema_arrow)
        if is_editable(path):
            _refuse_misfit(path, file.schema_arrow)
        yield file


def encoded_column(file: pq.ParquetFile, path: Path, name: str) -> list[tuple[str, bytes]]:
    """Encoded bytes of a column chunk. Equal bytes mean equal values, so columns compare without decoding."""
    found = []
    with open(path, "rb") as handle:
        for chunk in _column_chunks(file, name):
            handle.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
            how = f"{chunk.physical_type} {chunk.compression} {chunk.encodings}"
            found.append((how, handle.read(chunk.total_compressed_size)))
    return found


def is_constant(file: pq.ParquetFile, name: str, value: str) -> bool:
    """True if the statistics of an open table show that all rows of a column have this value."""
    found = [chunk.statistics for chunk in _column_chunks(file, name)]
    return all(one and one.null_count == 0 and one.has_min_max and one.min == one.max == value for one in found)


def _column_chunks(file: pq.ParquetFile, name: str) -> list[Any]:
    index = file.schema_arrow.get_field_index(name)
    return [file.metadata.row_group(group).column(index) for group in range(file.num_row_groups)] if index >= 0 else []


def _refuse_misfit(path: Path, found: pa.Schema) -> None:
    """Raise InputError if a table that a person may have edited lacks a column that its readers need."""
    if lacking := [name for name in needed_columns(path.name) if name not in found.names]:
        raise InputError(f"{path}: no column {lacking[0]!r}; an edited table needs all columns that its stage writes")


def read_prompts(path: Path) -> pa.Table:
    """Read `prompt_id` and `split` of the prompts table, sorted by position; errors as `read_table`."""
    table = read_arrow(path, ["prompt_id", "split", "position"])
    if (np.diff(table["position"]) <= 0).any():  # only an edited table; sorting would copy all ids
        table = table.sort_by("position")
    return table.select(["prompt_id", "split"])


def read_metadata(path: Path) -> dict[str, str]:
    """Read the provenance that `write_table` stored; errors as `read_table`."""
    require_intact(path)
    with readable(path), open_file(path) as file:
        raw = pq.read_schema(file).metadata or {}
    return {key.decode(): value.decode() for key, value in raw.items()}


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn pyarrow's errors into errors that name the table.

    Raises:
        InputError: the file is missing, truncated or not Parquet, or it lacks a column.
    """
    try:
        yield
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        what = f"not a readable table ({first_line(error)})"
        raise damaged(path, what) if is_edited(path) else InputError(f"{path}: {what}") from error


def shard_path(folder: Path, shard: int) -> Path:
    """Path of one shard's table."""
    return folder / f"shard-{shard:05d}.parquet"


def read_shards(folder: Path) -> pd.DataFrame:
    """Read all shards of one stage in order; ignore leftovers of an earlier, larger shard count.

    Raises:
        InputError: a shard is missing.
    """
    return pd.concat(map(read_table, shard_paths(folder)), ignore_index=True)


def map_shards(folder: Path, read: Callable[[Path], T]) -> list[T]:
    """Call `read` on each shard of one stage, on a few threads; return the results in the order of the shards.

    Raises:
        InputError: a shard is missing.
    """
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(read, shard_paths(folder)))


def read_sizes(folder: Path) -> dict[str, ClipSize]:
    """Read the frames, height and width of each clip of a videos table, by video_id; errors as `read_shards`."""
    columns = ["video_id", *CLIP_SIZE]
    rows = [row for path in shard_paths(folder) for row in read_rows(path, columns)]
    return {row["video_id"]: tuple(row[name] for name in CLIP_SIZE) for row in rows}


def count_shards(folder: Path) -> int:
    """Number of shards of one stage's table.

    Raises:
        InputError: there is no shard.
    """
    if not shard_path(folder, 0).exists():
        raise InputError(f"{folder}: no shard-00000.parquet; run the stage that writes it first")
    return int(read_metadata(shard_path(folder, 0)).get("num_shards", "1"))


def shard_paths(folder: Path) -> list[Path]:
    """Paths of all shards of one stage's table, in order; errors as `count_shards`."""
    return [shard_path(folder, shard) for shard in range(count_shards(folder))]


def starts_of_runs(ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """Index of each row whose id differs from the row before, including the first row."""
    if not len(ids):
        return np.zeros(0, dtype=np.int64)
    changes = pc.not_equal(ids[1:], ids[:-1]).to_numpy()
    return np.concatenate([[0], np.flatnonzero(changes) + 1])


def take_in_order(column: pa.ChunkedArray, rows: NDArray[np.int64]) -> pa.ChunkedArray:
    """Take rows with increasing indices. `ChunkedArray.take` would first copy the entire column."""
    taken = np.zeros(len(column), dtype=bool)
    taken[rows] = True
    return column.filter(pa.array(taken))


def find_rows(ids: pa.ChunkedArray, among: pa.ChunkedArray) -> pa.Array:
    """Index of each id in `among`; null if it is missing there."""
    if ids.equals(among):  # avoid hashing the ids
        return pa.array(np.arange(len(ids)))
    return pc.index_in(ids, among)
