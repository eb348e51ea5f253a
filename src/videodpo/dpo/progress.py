"""Progress of a running training, as text for people and numbers for trackers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from accelerate import Accelerator


def describe_step(row: Mapping[str, Any]) -> str:
    """Describe a step. The loss is divided by the pair weight, so that steps with rare and common pairs compare."""
    if row["skipped"]:
        text = "skipped"
    else:
        loss = row["loss"] / (row["weight_mean"] or 1.0)
        text = f"loss / weight {loss:.4f} margin {row['margin']:+.4f} accuracy {row['accuracy']:.2f}"
    if row["validation_accuracy"] is not None:
        text += f", validation: loss {row['validation_loss']:.4f} accuracy {row['validation_accuracy']:.2f}"
    return text


def start_trackers(
    accelerator: Accelerator, name: str, identity: str, settings: Mapping[str, Any], folder: Path
) -> None:
    """Open the configured trackers. A resumed training also resumes its run in the trackers.

    Args:
        name: name of the run.
        identity: digest of settings and data, from which the run's id is made.
        settings: shown next to the curves.
        folder: where trackers write their files.
    """
    wandb = {"id": identity[:16], "resume": "allow", "name": name, "dir": str(folder)}
    (flat,) = pd.json_normalize(dict(settings), sep=".").to_dict("records")
    config = {name: value if isinstance(value, bool | int | float) else str(value) for name, value in flat.items()}
    accelerator.init_trackers("videodpo", config=config, init_kwargs={"wandb": wandb})


def track(accelerator: Accelerator, row: Mapping[str, Any]) -> None:
    """Send one step's numbers to the trackers."""
    numbers = {name: value for name, value in row.items() if value is not None and name != "step"}
    accelerator.log({f"train/{name}": float(value) for name, value in numbers.items()}, step=row["step"])
