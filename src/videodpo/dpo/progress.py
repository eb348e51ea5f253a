"""A training's log to lines for people and numbers for trackers, while it runs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from accelerate import Accelerator

_RECENT = 50


def progress_line(rows: Sequence[Mapping[str, Any]], num_steps: int, now: datetime) -> str:
    """Where the training is, and when it will end."""
    row = rows[-1]
    seconds = statistics.median(one["seconds"] for one in rows[-_RECENT:])
    left = timedelta(seconds=round(seconds * (num_steps - len(rows))))
    line = f"step {len(rows)} of {num_steps}: "
    if row["skipped"]:
        line += "skipped"
    else:
        line += f"loss {row['loss']:.4f} margin {row['margin']:+.4f} accuracy {row['accuracy']:.2f}"
    if row["validation_accuracy"] is not None:
        line += f", held back: loss {row['validation_loss']:.4f} accuracy {row['validation_accuracy']:.2f}"
    return f"{line}; {seconds:.2f} s a step, {left} to go, ends {now + left:%Y-%m-%d %H:%M}"


def start_trackers(
    accelerator: Accelerator, name: str, identity: str, settings: Mapping[str, Any], folder: Path
) -> None:
    """Open the configured trackers; a resumed training goes on in the same run of theirs.

    Args:
        name: of the run. identity: of settings and data. settings: shown beside the curves.
    """
    wandb = {"id": identity[:16], "resume": "allow", "name": name, "dir": str(folder)}
    accelerator.init_trackers("videodpo", config=dict(_flat(settings)), init_kwargs={"wandb": wandb})


def track(accelerator: Accelerator, row: Mapping[str, Any]) -> None:
    """One step's numbers."""
    numbers = {name: value for name, value in row.items() if value is not None and name != "step"}
    accelerator.log({f"train/{name}": float(value) for name, value in numbers.items()}, step=row["step"])


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, value if isinstance(value, bool | int | float) else str(value)))
    return found
