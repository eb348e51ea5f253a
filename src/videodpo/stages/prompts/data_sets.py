"""Reads prompts from a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from videodpo.config import HUB_PREFIX, ConfigError
from videodpo.stages.prompts.formats import BATCH, Record, need_columns
from videodpo.storage.files import first_line
from videodpo.weights.locations import hub_name


def read_dataset(location: str, split: str, columns: Sequence[str], data_files: str | None = None) -> Iterator[Record]:
    """Yield the rows of a Hugging Face data set, in every format that its library reads; its own code never runs.

    Args:
        location: `hub:<organisation>/<name>@<commit>`, a folder of data files as a data set repository has them, or one
            that `save_to_disk` wrote.
        split: name of the split.
        data_files: the one file of the repository that is read.

    Raises:
        ConfigError: not loadable, or a column is missing.
    """
    import datasets

    saved = (Path(location) / "state.json").is_file() or (Path(location) / "dataset_dict.json").is_file()
    try:
        if saved:
            data = datasets.load_from_disk(location)
        else:
            name, revision = hub_data_set(location) if location.startswith(HUB_PREFIX) else (location, None)
            data = datasets.load_dataset(name, data_files=data_files, split=split, revision=revision)
    except StopIteration:  # from a file without rows
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
                yield number, row
                number += 1
    except UnicodeDecodeError as error:
        raise ConfigError(f"prompts.source.path: {location}, after row {number}: not UTF-8 ({error.reason})") from error


def hub_data_set(location: str) -> tuple[str, str]:
    """Repository and commit of `hub:<organisation>/<name>@<commit>`.

    Raises:
        ConfigError: not of this form; without a commit, prompts could change between two starts.
    """
    try:
        return hub_name(location)
    except ConfigError as error:
        raise ConfigError(f"prompts.source.path: {error}") from None
