"""Reader of the table of reference errors, for the training and its checks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from videodpo.config.errors import InputError
from videodpo.dpo.visits import Plan, Visit
from videodpo.storage.tables import read_shards


def read_reference(round_folder: Path, plan: Plan) -> np.ndarray:
    """Return reference errors [visits, 2] (winner, loser), float32, in the order of `plan.visits`; NaN for null.

    Raises:
        InputError: the table belongs to another plan.
    """
    table = read_shards(round_folder / "reference")
    if not has_draws(table, plan.visits):
        raise InputError(
            "reference: the table was made for other pairs or another schedule; re-run the stage reference"
        )
    return table[["ref_error_winner", "ref_error_loser"]].to_numpy(np.float32, copy=True)


def has_draws(table: pd.DataFrame, visits: Sequence[Visit]) -> bool:
    """Return True if the rows belong to these visits, in their order."""
    planned = [(visit.pair_id, visit.noise_seed, visit.timestep) for visit in visits]
    return list(zip(table["pair_id"], table["noise_seed"], table["timestep"], strict=True)) == planned
