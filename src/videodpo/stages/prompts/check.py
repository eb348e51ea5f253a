"""Check before the run starts that the sources of prompts exist and have enough rows for the split."""

from __future__ import annotations

import itertools
from pathlib import Path

from videodpo.config import ConfigError, Prompts, Source
from videodpo.stages.prompts.clips import check_clips
from videodpo.stages.prompts.data_sets import hub_data_set
from videodpo.stages.prompts.pair_sources import is_data_set
from videodpo.stages.prompts.sources import ON_HUB, heldout_keys, read_rows, source_name


def check_prompts(prompts: Prompts, max_missing: float = 0.0) -> None:
    """Check the sources of a run's prompts, and the clips that they name.

    Args:
        prompts: the section of the configuration.
        max_missing: largest fraction of the first clips of a list that may be missing.

    Raises:
        ConfigError: a data set of the hub has no commit; or the file is missing, not readable, or empty, lacks a
            column, has too few rows, or names missing clips.
    """
    train, heldout = prompts.num_train or 1, prompts.num_heldout
    wanted = "at least one" if prompts.num_train is None else str(prompts.num_train)
    if prompts.heldout_source is None:
        split = f"prompts.num_heldout: {heldout} held-out and {wanted} for training (prompts.num_train) make"
        check_source(prompts.source, train + heldout, split)
    else:
        check_source(prompts.source, train, f"prompts.num_train: {wanted} for training makes")
        with heldout_keys():
            check_source(prompts.heldout_source, heldout, f"prompts.num_heldout: {heldout} held-out make")
    if prompts.source.has_clips and not is_data_set(prompts.source):
        check_clips(prompts.source, max_missing)


def check_source(source: Source, need: int, split: str) -> None:
    """Read as many rows as the split needs, and no more; a Hugging Face data set is not read.

    Args:
        source: what to check.
        need: number of prompts that it must have.
        split: beginning of the message if it has fewer.

    Raises:
        ConfigError: as `check_prompts`.
    """
    if source.is_on_hub and source.kind in ON_HUB:
        hub_data_set(str(source.path))
        if source.clips is not None and not Path(source.clips).is_dir():
            raise ConfigError(f"prompts.source.clips: {source.clips}: no such folder; download the clips first")
        return
    if source.kind in ("huggingface", "pairs") and is_data_set(source):
        # Counting rows would import `datasets`, which takes seconds.
        _check_folder(Path(str(source.path)))
        return
    rows = (row for row in read_rows(source, seed=0) if row.text and row.text.strip())
    there = sum(1 for _ in itertools.islice(rows, need))
    if there == 0:
        raise ConfigError(f"prompts.source.path: {source.path}: has no prompts")
    if there < need:
        raise ConfigError(f"{split} {need}, {source_name(source)} has {there}; lower one of them or bring more prompts")


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise ConfigError(
            f"prompts.source.path: {folder}: no such folder; the kind 'huggingface' takes a folder or "
            "hub:<organisation>/<name>@<commit>"
        )
    if not any(file.is_file() for file in folder.rglob("*")):
        raise ConfigError(f"prompts.source.path: {folder}: the folder is empty")
