"""Folders of a run's rounds, and the adapters trained in them."""

from __future__ import annotations

from pathlib import Path

from videodpo.config.errors import InputError
from videodpo.storage.manifests import require_intact


def round_folder(folder: Path, number: int) -> Path:
    """Folder of round `number` (counted from 1) in a run's folder."""
    return folder / f"round{number}"


def adapter_after(folder: Path, number: int) -> Path | None:
    """Adapter trained in round `number`; None for round 0, which is the base model.

    Raises:
        InputError: the round has not trained it yet, or it differs from its manifest.
    """
    if number == 0:
        return None
    adapter = round_folder(folder, number) / "adapter"
    if not adapter.is_dir():
        raise InputError(f"{adapter}: this adapter does not exist; train round {number} first")
    require_intact(adapter)
    return adapter
