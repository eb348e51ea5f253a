"""Check before the run starts that the source of prompts exists and has enough rows for the split."""

from __future__ import annotations

import itertools
from pathlib import Path

from videodpo.config import HUB_PREFIX, ConfigError, Prompts, Source
from videodpo.stages.prompts.clips import check_clips
from videodpo.stages.prompts.data_sets import hub_data_set
from videodpo.stages.prompts.sources import read_rows, source_name


def check_source(source: Source, prompts: Prompts, max_missing: float = 0.0) -> None:
    """Read as many rows as the split needs, and no more; data on the hub is not checked.

    Args:
        max_missing: largest fraction of the first clips of a list that may be missing.

    Raises:
        ConfigError: a data set of the hub has no commit; or the file is missing, not readable, or empty, lacks a
            column, has too few rows, or names missing clips.
    """
    if source.path is not None and source.path.startswith(HUB_PREFIX) and source.kind in ("vidprom", "huggingface"):
        hub_data_set(source.path)
        return
    if source.kind == "huggingface":
        # Counting rows would import `datasets`, which takes seconds.
        _check_folder(Path(str(source.path)))
        return
    need = (prompts.num_train or 1) + prompts.num_heldout
    rows = (row for row in read_rows(source, seed=0) if row.text and row.text.strip())
    there = sum(1 for _ in itertools.islice(rows, need))
    if there == 0:
        raise ConfigError(f"prompts.source.path: {source.path}: has no prompts")
    if there < need:
        wanted = "at least one" if prompts.num_train is None else str(prompts.num_train)
        raise ConfigError(
            f"prompts.num_heldout: {prompts.num_heldout} held-out and {wanted} for training (prompts.num_train) "
            f"make {need}, {source_name(source)} has {there}; lower one of them or bring more prompts"
        )
    if source.kind == "clips":
        check_clips(source, max_missing)


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(
            f"prompts.source.path: {folder}: no such folder; the kind 'huggingface' takes a folder or "
            "hub:<organisation>/<name>@<commit>"
        )
    if not any(file.is_file() for file in folder.rglob("*")):
        raise ConfigError(f"prompts.source.path: {folder}: the folder is empty")
