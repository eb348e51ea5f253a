"""Markers of stages that failed for a permanent reason, so that the workflow does not retry them."""

from __future__ import annotations

import shutil
from pathlib import Path

from videodpo.config.errors import RunError


class GaveUp(RunError):
    """A stage stopped for a permanent reason: a retry without a change would fail in the same way."""


def mark(round_folder: Path, stage: str) -> None:
    """Record that the stage gave up, until the workflow is started again."""
    path = _path(round_folder, stage)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def clear_marks(folder: Path) -> None:
    """Remove all markers of a run: the user may have fixed the reason before the new start."""
    for marks in folder.glob("round*/gave_up"):
        shutil.rmtree(marks)


def has_given_up(round_folder: Path, stage: str) -> bool:
    """True if a try of the stage left its marker since the workflow was started."""
    return _path(round_folder, stage).exists()


def _path(round_folder: Path, stage: str) -> Path:
    return round_folder / "gave_up" / stage
