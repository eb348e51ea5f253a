"""Votes of people that decide pairs."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from videodpo.config import PairLabels
from videodpo.config.errors import InputError
from videodpo.storage.labels import OVERALL, read_labels

log = logging.getLogger(__name__)


def read_votes(settings: PairLabels, round_folder: Path) -> pd.DataFrame | None:
    """Read the votes on the training clips of a round; None if the settings do not use votes.

    Raises:
        InputError: the votes are of other clips, or the source is `human` and nobody voted on this round.
    """
    if settings.source == "omniscore":
        return None
    assert settings.path is not None
    found, num_gone = read_labels(Path(settings.path), round_folder)
    votes = found[(found["question"] == OVERALL) & (found["left_arm"] == "train")]
    if num_gone:
        log.warning("%s: %d votes are left out: their clips are gone from %s", settings.path, num_gone, round_folder)
    if votes.empty:
        if settings.source == "human":
            raise InputError(
                f"pairs.labels.path: {settings.path!r} has no vote on a pair of {round_folder}; label it with "
                "`videodpo label`, or use the source mixed"
            )
        log.warning("%s has no vote on a pair of %s; the OmniScore decides all", settings.path, round_folder)
    return votes
