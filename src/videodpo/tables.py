"""The schema of every table, and the one place that writes Parquet (atomically) and reads it."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from videodpo import __version__
from videodpo.digests import require_intact
from videodpo.row_groups import RowGroupWriter, readable, refuse_large_footer, row_group_writer

SCHEMA_VERSION = "1"
# What is read of a Parquet file, whoever wrote it.
MAX_ROWS = 20_000_000
MAX_TEXT_BYTES = 2 * 2**30  # of all columns, every row's text counted

_STR, _F64, _F32, _I64, _I32 = pa.string(), pa.float64(), pa.float32(), pa.int64(), pa.int32()


def _schema(**columns: pa.DataType | tuple[pa.DataType, bool]) -> pa.Schema:
    """Columns are required unless given as (type, True)."""
    fields = []
    for name, kind in columns.items():
        dtype, nullable = kind if isinstance(kind, tuple) else (kind, False)
        fields.append(pa.field(name, dtype, nullable=nullable))
    return pa.schema(fields)


PROMPTS = _schema(prompt_id=_STR, prompt=_STR, source=_STR, split=_STR, position=_I64)
PROMPTS_DROPPED = _schema(row=_I64, prompt=_STR, step=_STR, reason=_STR)
CLIPS = _schema(prompt_id=_STR, sample=_I32, path=_STR)
CLIP_SIZE = ("num_frames", "height", "width")
ClipSize: TypeAlias = tuple[int | None, ...]
"""The values of `CLIP_SIZE`; pixels. None for a failed clip."""
VIDEOS = _schema(
    video_id=_STR,
    prompt_id=_STR,
    sample=_I32,
    seed=_I64,
    status=_STR,
    error=(_STR, True),
    path=(_STR, True),
    sha256=(_STR, True),
    num_frames=(_I32, True),
    height=(_I32, True),
    width=(_I32, True),
    fps=(_F64, True),
    latents=(_STR, True),
    model=_STR,
    adapter=(_STR, True),
)
SCORES = _schema(
    video_id=_STR,
    prompt_id=_STR,
    dimension=_STR,
    value=(_F64, True),
    status=_STR,
    error=(_STR, True),
    scorer=_STR,
)
MEASURED = _schema(
    video_id=_STR,
    sha256=_STR,  # of the clip
    dimension=_STR,
    scorer_digest=_STR,  # of the scorer's version, options and weights
    value=(_F64, True),
    error=(_STR, True),
    retry=pa.bool_(),  # whether another try may find a score
)
PAIRS = _schema(
    pair_id=_I64,
    prompt_id=_STR,
    winner_id=_STR,
    loser_id=_STR,
    score_winner=_F64,
    score_loser=_F64,
    gap=_F64,
    probability=_F64,
    weight=_F64,
    policy=_STR,
    label_source=_STR,
)
PAIRS_REJECTED = _schema(prompt_id=_STR, winner_id=(_STR, True), loser_id=(_STR, True), reason=_STR)
REFERENCE = _schema(
    pair_id=_I64,
    visit=_I32,
    timestep=_F64,
    noise_seed=_I64,
    ref_error_winner=_F32,
    ref_error_loser=_F32,
)
EVALUATION = _schema(prompt_id=_STR, sample=_I32, dimension=_STR, base=_F64, aligned=_F64, delta=_F64)
DRIFT_BUCKETS = 4  # equal parts of the timestep range, low noise first
TRAIN_LOG = _schema(
    step=_I64,
    epoch=_F64,
    loss=(_F64, True),  # null here and below where it was not finite, and so the step was skipped
    margin=(_F64, True),
    accuracy=_F64,
    error_winner=(_F64, True),
    error_loser=(_F64, True),
    ref_error_winner=(_F64, True),
    ref_error_loser=(_F64, True),
    weight_mean=_F64,
    lr=_F64,
    grad_norm=(_F64, True),
    skipped=pa.bool_(),
    validation_loss=(_F64, True),  # where the held-back pairs were looked at
    validation_accuracy=(_F64, True),
    seconds=_F64,
    samples_per_second=_F64,
    max_memory_mb=_F64,
    **{f"{side}_drift_{bucket}": (_F64, True) for side in ("winner", "loser") for bucket in range(DRIFT_BUCKETS)},
)


def omniscore_schema(dimensions: Sequence[str]) -> pa.Schema:
    """Schema of the omniscore table for the given dimensions, in their order."""
    columns: dict[str, pa.DataType | tuple[pa.DataType, bool]] = {
        "video_id": _STR,
        "prompt_id": _STR,
        "sample": _I32,
    }
    columns |= {f"raw_{name}": _F64 for name in dimensions}
    columns |= {f"norm_{name}": _F64 for name in dimensions}
    return _schema(**columns, quality=_F64, semantic=_F64, omniscore=_F64)


def refuse_other_types(path: Path, found: pa.Schema) -> None:
    """Of a table that another program may have written.

    Raises:
        ValueError: a column that our tables have too holds something else; the message names it.
    """
    for field in found:
        needed = "number" if field.name.startswith(("raw_", "norm_")) else _KINDS.get(field.name)
        if needed and _kind(field.type) not in (needed, "nothing"):
            dtype = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            raise ValueError(f"{path}: column {field.name!r} is {dtype}; {needed} is needed")


def _kind(dtype: pa.DataType) -> str:
    if pa.types.is_dictionary(dtype):
        return _kind(dtype.value_type)
    if pa.types.is_null(dtype):
        return "nothing"
    if pa.types.is_boolean(dtype):
        return "true or false"
    if dtype in (pa.string(), pa.large_string(), pa.string_view()):
        return "text"
    return "number" if pa.types.is_integer(dtype) or pa.types.is_floating(dtype) else str(dtype)


_ALL = [PROMPTS, PROMPTS_DROPPED, CLIPS, VIDEOS, SCORES, MEASURED, PAIRS, PAIRS_REJECTED, REFERENCE, EVALUATION]
_ALL += [TRAIN_LOG, omniscore_schema(())]
_KINDS = {field.name: _kind(field.type) for schema in _ALL for field in schema}
del _KINDS["step"]  # of the prompts' cleaning, and of a training: every other name is one thing in all tables


@functools.cache
def commit() -> str:
    """Commit of the checkout that the package lies in; "unknown" for an installed package, or without git."""
    root = Path(__file__).resolve().parents[2]
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
) -> None:
    """Write one table atomically; the same rows give the same bytes.

    Args:
        path: final name. rows: a frame or a list of row dicts, already in their final order.
        schema: one of this module's. stage, digest, seed: provenance, kept in the file's metadata.
        extra: further metadata, for example the shard.

    Raises:
        ValueError: columns differ from the schema, a number is not finite, or a required column has a null.
    """
    if isinstance(rows, pd.DataFrame):
        if set(rows.columns) != set(schema.names):
            raise ValueError(f"{path.name}: columns {sorted(rows.columns)} are not {sorted(schema.names)}")
        table = pa.Table.from_pandas(rows[schema.names], schema=schema, preserve_index=False)
    else:
        if unknown := sorted({name for row in rows for name in row} - set(schema.names)):
            raise ValueError(f"{path.name}: columns {unknown} are not among {sorted(schema.names)}")
        table = pa.Table.from_pylist(list(rows), schema=schema)
    with table_writer(path, schema, stage=stage, digest=digest, seed=seed, extra=extra) as writer:
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
    with row_group_writer(path, schema) as writer:
        writer.metadata |= metadata
        yield writer


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read one table.

    Raises:
        ValueError: the file is missing, damaged or no Parquet; the message names it.
    """
    frame: pd.DataFrame = _arrow_table(path, columns).to_pandas()
    return frame


def read_rows(path: Path) -> list[dict[str, Any]]:
    """One dict a row, as `write_table` takes them, nulls as None; errors as `read_table`."""
    rows: list[dict[str, Any]] = _arrow_table(path).to_pylist()
    return rows


def _arrow_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    require_intact(path)
    with readable(path), open_parquet(path) as file:
        refuse_other_types(path, file.schema_arrow)
        if lacking := [name for name in columns or () if name not in file.schema_arrow.names]:
            raise ValueError(f"{path}: no column {lacking[0]!r} in it; run the stage that makes it again")
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
            raise ValueError(f"{path}: {file.metadata.num_rows:,} rows, {MAX_ROWS:,} are allowed; cut it into several")
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
        raise ValueError(f"{path}: {num_bytes:,} bytes of text, {MAX_TEXT_BYTES:,} are allowed")
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
        raise ValueError(f"{folder}: no shard-00000.parquet; run the stage that makes it first")
    return int(read_metadata(shard_path(folder, 0)).get("num_shards", "1"))
