"""Prompts of a Hugging Face data set: what its library would inflate, or run, is refused before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from videodpo.config import HUB_PREFIX, ConfigError
from videodpo.files import first_line
from videodpo.prompts.formats import BATCH, MAX_TEXT, Record, need_columns, raw_lines, too_long

# The library inflates a file by its first bytes, whatever its name, to disk and without a limit.
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf": "7z",
    b"Rar!": "rar",
    b"\x04\x22\x4d\x18": "lz4",
}
_LINES = (".csv", ".tsv", ".jsonl", ".txt")
_MAX_DOCUMENT = 2**28  # bytes of a JSON file, which is read at once
_ENDINGS = (".gz", ".zip", ".zst", ".bz2", ".xz", ".7z", ".rar", ".lz4")


def read_dataset(place: str, split: str, columns: Sequence[str], data_files: str | None = None) -> Iterator[Record]:
    """Rows of a Hugging Face data set; its own code is never run.

    Args:
        place: `hub:<id>`, a folder of data files as a data set repository has them, or one that `save_to_disk` wrote.
        split: name of the split.
        data_files: the one file of the repository that is read.

    Raises:
        ConfigError: not loadable, compressed, with a text above `MAX_TEXT`, or a column is missing.
    """
    import datasets

    saved = (Path(place) / "state.json").is_file() or (Path(place) / "dataset_dict.json").is_file()
    try:
        if not place.startswith(HUB_PREFIX):
            _refuse_bombs(Path(place))
        if saved:
            data = datasets.load_from_disk(place)
        else:
            name = place.removeprefix(HUB_PREFIX)
            builder = datasets.load_dataset_builder(name, data_files=data_files)
            refuse_compressed(place, builder.config.data_files)
            data = datasets.load_dataset(name, data_files=data_files, split=split)
    except ConfigError:
        raise
    except StopIteration:  # of a file without rows
        raise ConfigError(f"prompts.source.path: {place}: there are no rows") from None
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = first_line(error)
        raise ConfigError(f"prompts.source.path: {place}: split {split!r} cannot be loaded ({reason})") from error
    if isinstance(data, datasets.DatasetDict):
        if split not in data:
            raise ConfigError(f"prompts.source.split: {split!r} is no split of {place}; there are: {', '.join(data)}")
        data = data[split]
    need_columns(place, columns, data.column_names)
    number = 0
    try:
        for batch in data.select_columns(list(columns)).iter(batch_size=BATCH):
            for row in zip(*(batch[name] for name in columns), strict=True):
                if any(
                    isinstance(value, str) and len(value.encode(errors="surrogatepass")) > MAX_TEXT for value in row
                ):
                    raise too_long(f"{place}, row {number}")
                yield number, row
                number += 1
    except UnicodeDecodeError as error:
        raise ConfigError(f"prompts.source.path: {place}, after row {number}: not UTF-8 ({error.reason})") from error


def _refuse_bombs(folder: Path) -> None:
    """Raises ConfigError or ValueError for a file whose reading would take far more than its size."""
    from videodpo.tables import open_parquet

    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        with open(path, "rb") as handle:
            begin = handle.read(8)
            handle.seek(0)
            for magic, kind in _COMPRESSED.items():
                if begin.startswith(magic):
                    raise ConfigError(
                        f"prompts.source.path: {path}: {kind} files of a data set are not read; inflate it"
                    )
            if path.suffix.lower() in _LINES:
                for _ in raw_lines(handle, path):
                    pass
        if path.suffix.lower() == ".json" and path.stat().st_size > _MAX_DOCUMENT:
            raise ConfigError(f"prompts.source.path: {path}: more than {_MAX_DOCUMENT:,} bytes; make it JSON lines")
        if path.suffix.lower() == ".parquet":
            with open_parquet(path):
                pass


def refuse_compressed(place: str, data_files: Any) -> None:
    """data_files: of a builder, by split. Raises ConfigError where one is compressed, by its name."""
    for name in (str(file) for files in (data_files or {}).values() for file in files):
        if name.lower().endswith(_ENDINGS):
            raise ConfigError(
                f"prompts.source.path: {place}: {name}: compressed files of a data set are not read; "
                "download and inflate it, and name the folder"
            )
