"""Read rows from the configured source of prompts, one at a time; heavy libraries are imported only when needed."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from videodpo.config import HUB_PREFIX, ConfigError, Source
from videodpo.demo_world.captions import all_scenes
from videodpo.runtime.seeds import derive_seed
from videodpo.stages.prompts.data_sets import read_dataset
from videodpo.stages.prompts.formats import Record, read_csv, read_jsonl, read_lines, read_parquet, read_table_file
from videodpo.stages.prompts.pair_sources import read_pairs
from videodpo.stages.prompts.text_files import is_garbled

VIDPROM_FILE = "VidProM_unique.csv"
MAX_GARBLED = 3  # consecutive rows; a single one may be a user's joke
TOXICITY = ("toxicity", "obscene", "identity_attack", "insult", "threat", "sexual_explicit")

ON_HUB = ("vidprom", "huggingface", "pairs")


class Row(NamedTuple):
    """One prompt, unchanged from the source."""

    row: int
    """0-based row of the source; for text and JSONL, the line."""
    text: str | None
    """None if the source has a null."""
    toxicity: float | None = None
    """The largest of VidProM's six probabilities; NaN if one is missing, None for other sources."""


def read_rows(source: Source, seed: int) -> Iterator[Row]:
    """Yield all prompts of a source, in its order.

    Args:
        source: what to read.
        seed: seed of the run; it only affects which scenes of the demo world are chosen.

    Raises:
        ConfigError: the source cannot be read, or its text was decoded wrongly. The message names the key, and the line
            or the existing columns.
    """
    garbled = 0
    for row in _rows(source, seed):
        if row.text and len(row.text) > 3:  # a line end in UTF-16 leaves a row with one NUL
            garbled = garbled + 1 if is_garbled(row.text) else 0
        if garbled == MAX_GARBLED:
            raise ConfigError(
                f"prompts.source.path: {source_name(source)}: row {row.row} and those before it are full of NUL and "
                "control characters, as if UTF-16 was read as UTF-8; convert the file, for example with "
                "iconv -f UTF-16LE -t UTF-8"
            )
        yield row


def _rows(source: Source, seed: int) -> Iterator[Row]:
    if source.kind == "demo_world":
        yield from _world(seed)
        return
    assert source.path is not None, "the configuration refuses other kinds without a path"
    if source.is_on_hub and source.kind not in ON_HUB:
        raise ConfigError(
            f"prompts.source.path: {source.path!r} is only for the kinds vidprom, huggingface and pairs; "
            f"the kind {source.kind!r} needs a file"
        )
    path, column = Path(source.path), source.column
    if source.kind == "vidprom":
        columns = (column, *TOXICITY)
        if source.is_on_hub:
            records = read_dataset(source.path, source.split, columns, data_files=VIDPROM_FILE)
        else:
            records = read_csv(path, columns)
        for row, (text, *probabilities) in records:
            yield Row(row, _text(text, row, source), _worst(probabilities, row, source))
    elif source.kind == "pairs":
        yield from _distinct(((pair.row, pair.prompt) for pair in read_pairs(source)), source)
    elif source.has_clips:
        yield from _distinct(((row, text) for row, (text, _) in read_table_file(path, (column, "path"))), source)
    else:
        for row, (text, *_) in _records(source, path):
            yield Row(row, _text(text, row, source))


@contextmanager
def heldout_keys() -> Iterator[None]:
    """Name the keys of `prompts.heldout_source` in errors about a source."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(str(error).replace("prompts.source.", "prompts.heldout_source.")) from error


def source_name(source: Source) -> str:
    """Origin for the prompts table: kind and file name or data set id, never a folder of this machine."""
    if source.path is None or source.kind == "demo_world":
        return source.kind
    if source.is_on_hub:
        return f"{source.kind}:{source.path.removeprefix(HUB_PREFIX)}"
    return f"{source.kind}:{Path(source.path).name}"


def _records(source: Source, path: Path) -> Iterator[Record]:
    if source.kind == "text":
        return ((number, (line,)) for number, line in read_lines(path))
    if source.kind == "jsonl":
        return read_jsonl(path, (source.column,))
    if source.kind == "csv":
        return read_csv(path, (source.column,))
    if source.kind == "parquet":
        return read_parquet(path, (source.column,))
    return read_dataset(str(source.path), source.split, (source.column,), name=source.name)


def _distinct(prompts: Iterable[tuple[int, Any]], source: Source) -> Iterator[Row]:
    """Yield the distinct prompts of a list of clips or pairs; further rows of a prompt are not duplicates."""
    seen = set()
    for row, value in prompts:
        text = _text(value, row, source)
        if text not in seen:
            seen.add(text)
            yield Row(row, text)


def _world(seed: int) -> Iterator[Row]:
    """Yield all one-object scenes, and as many two-object scenes, drawn by the seed: there are far more of these."""
    captions = [(scene.other_shape is None, scene.caption) for scene in all_scenes()]
    others = [row for row, (single, _) in enumerate(captions) if not single]
    rng = random.Random(derive_seed(seed, "prompts", "world"))
    drawn = set(rng.sample(others, len(captions) - len(others)))
    for row, (single, caption) in enumerate(captions):
        if single or row in drawn:
            yield Row(row, caption)


def _text(value: Any, row: int, source: Source) -> str | None:
    if value is None or isinstance(value, str):
        return value
    key, column = ("columns.prompt", source.columns.prompt) if source.kind == "pairs" else ("column", source.column)
    raise ConfigError(
        f"prompts.source.{key}: {column!r} holds {value!r} in row {row} of {source_name(source)}; text is needed"
    )


def _worst(probabilities: list[Any], row: int, source: Source) -> float:
    numbers = []
    for name, value in zip(TOXICITY, probabilities, strict=True):
        try:
            numbers.append(math.nan if value in (None, "") else float(value))
        except (TypeError, ValueError):
            raise ConfigError(
                f"prompts.source.path: {name} is {value!r} in row {row} of {source_name(source)}; a number is needed"
            ) from None
    return math.nan if any(map(math.isnan, numbers)) else max(numbers)
