"""Marks of stages whose next try would end as the last one did, so that the workflow makes none."""

from __future__ import annotations

import shutil
from pathlib import Path

from videodpo.config.errors import RunError


class GaveUp(RunError):
    """A stage stopped for a reason that stays: starting it again as it is ends the same way."""


def mark(round_folder: Path, stage: str) -> None:
    """Say that the stage gave up, until the workflow is started again."""
    path = _path(round_folder, stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def clear_marks(folder: Path) -> None:
    """Remove all marks of a run: whoever starts it again may have removed the reason."""
    for marks in folder.glob("round*/gave_up"):
        shutil.rmtree(marks)


def has_given_up(round_folder: Path, stage: str) -> bool:
    """True if a try of the stage left its mark since the workflow was started."""
    return _path(round_folder, stage).exists()


def _path(round_folder: Path, stage: str) -> Path:
    return round_folder / "gave_up" / stage
