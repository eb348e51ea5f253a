"""The one place that writes Parquet (atomically) and reads it."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from videodpo import __version__
from videodpo.config.errors import InputError
from videodpo.storage.manifests import require_intact
from videodpo.storage.row_groups import RowGroupWriter, readable, refuse_large_footer, row_group_writer
from videodpo.storage.schemas import CLIP_SIZE, ClipSize, refuse_other_types

SCHEMA_VERSION = "1"
# What is read of a Parquet file, whoever wrote it.
MAX_ROWS = 20_000_000
MAX_TEXT_BYTES = 2 * 2**30  # of all columns, every row's text counted


@functools.cache
def commit() -> str:
    """Commit of the checkout that the package lies in; "unknown" for an installed package, or without git."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists() or not shutil.which("git"):
        return "unknown"
    answer = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
    )
    return answer.stdout.strip() or "unknown"


def write_table(
    path: Path,
    rows: pd.DataFrame | Sequence[Mapping[str, Any]],
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
        path: final name. rows: a frame or a list of row dicts, already in their final order.
        schema: one of this module's. stage, digest, seed: provenance, kept in the file's metadata.
        extra: further metadata, for example the shard.
        alongside: finished files that belong to the table; its manifest lists them too.

    Raises:
        ValueError: columns differ from the schema, a number is not finite, or a required column has a null.
    """
    if isinstance(rows, pd.DataFrame):
        if set(rows.columns) != set(schema.names):
            raise InputError(f"{path.name}: columns {sorted(rows.columns)} are not {sorted(schema.names)}")
        table = pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False)
    else:
        if unknown := sorted({name for row in rows for name in row} - set(schema.names)):
            raise InputError(f"{path.name}: columns {unknown} are not among {sorted(schema.names)}")
        table = pa.Table.from_pylist(list(rows), schema=schema)
    with table_writer(path, schema, stage=stage, digest=digest, seed=seed, extra=extra, alongside=alongside) as writer:
        writer.write(table)


@contextmanager
def table_writer(
    path: Path,
    schema: pa.Schema,
    *,
    stage: str,
    digest: str,
    seed: int,
    extra: Mapping[str, str] | None = None,
    alongside: Sequence[Path] = (),
) -> Iterator[RowGroupWriter]:
    """Write one table atomically, part by part: nothing is left of it where the block raises.

    The block may add metadata that is known only at its end. Args and errors: as `write_table`.
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
    with row_group_writer(path, schema, alongside) as writer:
        writer.metadata |= metadata
        yield writer


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read one table.

    Raises:
        ValueError: the file is missing, damaged or no Parquet; the message names it.
    """
    frame: pd.DataFrame = _arrow_table(path, columns).to_pandas()
    return frame


def read_rows(path: Path, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """One dict a row, as `write_table` takes them, nulls as None; columns and errors as `read_table`."""
    rows: list[dict[str, Any]] = _arrow_table(path, columns).to_pylist()
    return rows


def _arrow_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    require_intact(path)
    with readable(path), open_parquet(path) as file:
        refuse_other_types(path, file.schema_arrow)
        if lacking := [name for name in columns or () if name not in file.schema_arrow.names]:
            raise InputError(f"{path}: no column {lacking[0]!r} in it; run the stage that makes it again")
        return _plain(file.read(columns=list(columns) if columns else None), path)


def read_metadata(path: Path) -> dict[str, str]:
    """The provenance that `write_table` stored; errors as `read_table`."""
    require_intact(path)
    with readable(path):
        refuse_large_footer(path)
        raw = pq.read_schema(path).metadata or {}
    return {key.decode(): value.decode() for key, value in raw.items()}


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a Parquet file whose columns of text stay entries of a dictionary: a page can repeat one 10^9 times.

    Raises:
        OSError, pyarrow.ArrowException: not readable.
        ValueError: a folder, or larger than a table can be; the message has the limit.
    """
    refuse_large_footer(path)
    with pq.ParquetFile(path) as file:
        if file.metadata.num_rows > MAX_ROWS:
            raise InputError(f"{path}: {file.metadata.num_rows:,} rows, {MAX_ROWS:,} are allowed; cut it into several")
        texts = [field.name for field in file.schema_arrow if field.type in (pa.string(), pa.large_string())]
    return pq.ParquetFile(path, read_dictionary=texts)


def _plain(table: pa.Table, path: Path) -> pa.Table:
    """The table with its texts written out, if they are not too much for the memory."""
    num_bytes = 0
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            for chunk in column.chunks:
                lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
                num_bytes += pc.sum(pc.cast(lengths, pa.int64())).as_py() or 0
    if num_bytes > MAX_TEXT_BYTES:
        raise InputError(f"{path}: {num_bytes:,} bytes of text, {MAX_TEXT_BYTES:,} are allowed")
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields, metadata=table.schema.metadata))


def shard_path(folder: Path, shard: int) -> Path:
    """Name of one shard's table."""
    return folder / f"shard-{shard:05d}.parquet"


def read_shards(folder: Path) -> pd.DataFrame:
    """All shards of one stage, in order; leftovers of an earlier, larger shard count are passed over.

    Raises:
        ValueError: a shard is missing.
    """
    return pd.concat(
        [read_table(shard_path(folder, shard)) for shard in range(count_shards(folder))], ignore_index=True
    )


def read_sizes(folder: Path) -> dict[str, ClipSize]:
    """Frames, height and width of each clip of a videos table, by video_id; errors as `read_shards`."""
    columns = ["video_id", *CLIP_SIZE]
    paths = [shard_path(folder, shard) for shard in range(count_shards(folder))]
    rows = [row for path in paths for row in _arrow_table(path, columns).to_pylist()]
    return {row["video_id"]: tuple(row[name] for name in CLIP_SIZE) for row in rows}


def count_shards(folder: Path) -> int:
    """How many shards one stage's table has.

    Raises:
        ValueError: there is none.
    """
    if not shard_path(folder, 0).exists():
        raise InputError(f"{folder}: no shard-00000.parquet; run the stage that makes it first")
    return int(read_metadata(shard_path(folder, 0)).get("num_shards", "1"))
