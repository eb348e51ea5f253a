"""Where the rounds of a run lie, and the adapters that they made."""

from __future__ import annotations

from pathlib import Path

from videodpo.config.errors import InputError
from videodpo.storage.manifests import require_intact


def round_folder(folder: Path, number: int) -> Path:
    """Folder of round `number`, from 1, in a run's folder."""
    return folder / f"round{number}"


def adapter_after(folder: Path, number: int) -> Path | None:
    """The adapter that round `number` made; None for round 0: that is the base model.

    Raises:
        InputError: the round has not made it yet, or it is not what was written.
    """
    if number == 0:
        return None
    adapter = round_folder(folder, number) / "adapter"
    if not adapter.is_dir():
        raise InputError(f"{adapter}: no adapter there; train round {number} first")
    require_intact(adapter)
    return adapter
