"""Prompts of a Hugging Face data set: what its library would inflate, or run, is refused before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from videodpo.config import HUB_PREFIX, ConfigError
from videodpo.stages.prompts.formats import BATCH, MAX_TEXT, Record, need_columns, raw_lines, too_long
from videodpo.storage.files import first_line

_LINES = (".csv", ".tsv", ".jsonl", ".txt")
_FORMATS = (*_LINES, ".json", ".parquet")
_MAX_DOCUMENT = 2**28  # bytes of a JSON file, which is read at once


def read_dataset(location: str, split: str, columns: Sequence[str], data_files: str | None = None) -> Iterator[Record]:
    """Rows of a Hugging Face data set; its own code is never run.

    Args:
        location: `hub:<id>`, a folder of data files as a data set repository has them, or one that `save_to_disk`
            wrote.
        split: name of the split.
        data_files: the one file of the repository that is read.

    Raises:
        ConfigError: not loadable, compressed or of another format, with a text above `MAX_TEXT`, or without a column.
    """
    import datasets

    saved = (Path(location) / "state.json").is_file() or (Path(location) / "dataset_dict.json").is_file()
    try:
        if saved:
            data = datasets.load_from_disk(location)
        else:
            name = location.removeprefix(HUB_PREFIX)
            builder = datasets.load_dataset_builder(name, data_files=data_files)
            refuse_unbounded(location, builder.config.data_files)
            data = datasets.load_dataset(name, data_files=data_files, split=split)
    except ConfigError:
        raise
    except StopIteration:  # of a file without rows
        raise ConfigError(f"prompts.source.path: {location}: there are no rows") from None
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = first_line(error)
        raise ConfigError(f"prompts.source.path: {location}: split {split!r} cannot be loaded ({reason})") from error
    if isinstance(data, datasets.DatasetDict):
        if split not in data:
            raise ConfigError(
                f"prompts.source.split: {split!r} is no split of {location}; there are: {', '.join(data)}"
            )
        data = data[split]
    need_columns(location, columns, data.column_names)
    number = 0
    try:
        for batch in data.select_columns(list(columns)).iter(batch_size=BATCH):
            for row in zip(*(batch[name] for name in columns), strict=True):
                if any(
                    isinstance(value, str) and len(value.encode(errors="surrogatepass")) > MAX_TEXT for value in row
                ):
                    raise too_long(f"{location}, row {number}")
                yield number, row
                number += 1
    except UnicodeDecodeError as error:
        raise ConfigError(f"prompts.source.path: {location}, after row {number}: not UTF-8 ({error.reason})") from error


def refuse_unbounded(location: str, data_files: Any) -> None:
    """Refuse files whose reading may take far more than their size, before they are read.

    Args:
        data_files: those that the library chose, by split. Of a hub only their names are known.

    Raises:
        ConfigError: a file of another format than `_FORMATS`, compressed, or with a line above `MAX_LINE`.
        ValueError: a Parquet file that is larger than `tables.open_parquet` reads.
    """
    for file in (str(file) for files in (data_files or {}).values() for file in files):
        if not file.lower().endswith(_FORMATS):
            raise ConfigError(
                f"prompts.source.path: {location}: {file}: of a data set {', '.join(_FORMATS)} are read; "
                "inflate or convert it, and name its folder"
            )
        if not location.startswith(HUB_PREFIX):
            _refuse_bomb(Path(file))


def _refuse_bomb(path: Path) -> None:
    from datasets.utils.extract import Extractor

    from videodpo.storage.tables import open_parquet

    # The library would inflate it whatever its name, to disk and without a limit.
    if kind := Extractor.infer_extractor_format(path):
        raise ConfigError(f"prompts.source.path: {path}: {kind} files of a data set are not read; inflate it")
    match path.suffix.lower():
        case ".parquet":
            with open_parquet(path):
                pass
        case ".json":
            if path.stat().st_size > _MAX_DOCUMENT:
                raise ConfigError(f"prompts.source.path: {path}: more than {_MAX_DOCUMENT:,} bytes; make it JSON lines")
        case _:
            with open(path, "rb") as handle:
                for _ in raw_lines(handle, path):
                    pass
