"""Marks of stages whose next try would end as the last one did, so that the workflow makes none."""

from __future__ import annotations

from pathlib import Path

from videodpo.config.errors import RunError


class GaveUp(RunError):
    """A stage stopped for a reason that stays: starting it again as it is ends the same way."""


def set_mark(round_folder: Path, stage: str, *, gave_up: bool) -> None:
    """Write the stage's mark, or remove that of an earlier try."""
    path = _path(round_folder, stage)
    if gave_up:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    else:
        path.unlink(missing_ok=True)


def has_given_up(round_folder: Path, stage: str) -> bool:
    """True if the last try of the stage left its mark."""
    return _path(round_folder, stage).exists()


def _path(round_folder: Path, stage: str) -> Path:
    return round_folder / "gave_up" / stage
