"""Read prompts from a Hugging Face data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from videodpo.config import HUB_PREFIX, ConfigError
from videodpo.stages.prompts.formats import BATCH, Record, need_columns, rows_of
from videodpo.stages.prompts.text_files import refuse_other_file
from videodpo.weights.locations import hub_name

MAX_REASON = 500  # characters


def read_dataset(
    location: str,
    split: str,
    columns: Sequence[str],
    optional: Sequence[str] = (),
    *,
    name: str | None = None,
    data_files: str | None = None,
) -> Iterator[Record]:
    """Yield the rows of a Hugging Face data set, in any format that `datasets` reads; its own code never runs.

    Args:
        location: `hub:<organisation>/<name>@<commit>`, a folder of data files laid out like a data set repository, or a
            folder that `save_to_disk` wrote.
        split: name of the split.
        columns: the requested columns.
        optional: further columns, whose values are None if the data set does not have them.
        name: name of the configuration; None if there is only one, or a default one.
        data_files: the one file of the repository to read.

    Raises:
        ConfigError: not loadable, or a column is missing.
    """
    import datasets

    data = _loaded(location, split, name, data_files)
    need_columns(location, columns, data.column_names)
    wanted = [*columns, *optional]
    data = data.select_columns([one for one in wanted if one in data.column_names])
    for column, feature in data.features.items():
        if isinstance(feature, datasets.Video):
            raise ConfigError(f"prompts.source.column: {column!r} of {location} holds videos; text is needed")
    number = 0
    try:
        for number, row in rows_of(data.iter(batch_size=BATCH), wanted):
            yield number, row
    except UnicodeDecodeError as error:
        raise ConfigError(f"prompts.source.path: {location}, near row {number}: not UTF-8 ({error.reason})") from error


def _loaded(location: str, split: str, name: str | None, data_files: str | None) -> Any:
    import datasets

    saved = (Path(location) / "state.json").is_file() or (Path(location) / "dataset_dict.json").is_file()
    if saved and name is not None:
        raise ConfigError(
            f"prompts.source.name: {name!r}: {location} was written by save_to_disk and has no configurations; "
            "leave the key out"
        )
    try:
        if saved:
            data = datasets.load_from_disk(location)
        else:
            path, revision = hub_data_set(location) if location.startswith(HUB_PREFIX) else (location, None)
            data = datasets.load_dataset(path, name, data_files=data_files, split=split, revision=revision)
    except StopIteration:  # raised for a file without rows
        raise ConfigError(f"prompts.source.path: {location}: has no rows") from None
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise ConfigError(
            f"prompts.source.path: {location}: split {split!r} cannot be loaded ({_reason(error)})"
        ) from error
    if isinstance(data, datasets.DatasetDict):
        if split not in data:
            raise ConfigError(
                f"prompts.source.split: {split!r} is not a split of {location}; it has: {', '.join(data)}"
            )
        data = data[split]
    return data


def _reason(error: BaseException) -> str:
    """Innermost cause in one line, with its file; the error itself only says that an error occurred.

    Raises:
        ConfigError: the file is not what its suffix says.
    """
    from videodpo.runtime.compat.datasets import file_at_fault

    file = file_at_fault(error)
    if file and file.is_file():
        refuse_other_file(file)
    text = _innermost_text(error)
    if "config" in text.lower():
        text += "; prompts.source.name chooses a configuration"
    return f"{file}: {text}" if file else text


def _innermost_text(error: BaseException) -> str:
    import datasets

    if isinstance(error, datasets.exceptions.DatasetGenerationCastError):
        return str(error).split("\n\n")[1]  # the middle part names the columns that do not fit
    while error.__cause__:
        error = error.__cause__
    return " ".join(str(error).split())[:MAX_REASON] or type(error).__name__


def hub_data_set(location: str) -> tuple[str, str]:
    """Repository and commit of `hub:<organisation>/<name>@<commit>`.

    Raises:
        ConfigError: not of this form. Without a commit, prompts could change between two runs.
    """
    try:
        return hub_name(location)
    except ConfigError as error:
        raise ConfigError(f"prompts.source.path: {error}") from None
