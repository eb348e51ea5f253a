"""Votes of people on pairs of clips: find those that are about the clips of a round."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from videodpo.config.errors import InputError
from videodpo.storage.schemas import LABELS
from videodpo.storage.tables import read_table, shard_paths

ARM_FOLDERS: Mapping[str, str] = {
    "train": "videos",
    "base": "evaluation/videos/base",
    "aligned": "evaluation/videos/aligned",
}
"""Folder of the videos table of each arm, relative to the round's folder; `train` has the clips of the training."""
OVERALL = "overall"
"""Question of the votes that choose pairs; the others are about one dimension each."""


def read_labels(path: Path, round_folder: Path) -> tuple[pd.DataFrame, int]:
    """Read the votes on the clips that a round has now.

    A vote is about the bytes of its clips. If a clip was sampled again, or if the table is of another run, the ids may
    be the same, but the SHA-256 differs.

    Args:
        path: table of votes, with the columns of `schemas.LABELS`.
        round_folder: round<r> in the run's folder.

    Returns:
        The votes, in the order of the table, and the number of the round's votes that are left out because a clip is
        gone. Both are empty if nobody voted on this round.

    Raises:
        InputError: the table has votes on this round, but none of them is about clips that are there.
    """
    table = read_table(path, LABELS.names)
    votes = table[table["round"] == int(round_folder.name.removeprefix("round"))]
    known = {
        (arm, *clip)
        for arm in sorted({*votes["left_arm"], *votes["right_arm"]})
        for shard in shard_paths(round_folder / ARM_FOLDERS[arm])
        for clip in read_table(shard, ["video_id", "sha256"]).itertuples(index=False, name=None)
    }
    left, right = (
        zip(votes[f"{side}_arm"], votes[f"{side}_id"], votes[f"{side}_sha256"], strict=True)
        for side in ("left", "right")
    )
    there = np.array([a in known and b in known for a, b in zip(left, right, strict=True)], dtype=bool)
    if len(votes) and not there.any():
        runs = ", ".join(sorted(set(votes["run"])))
        raise InputError(
            f"{path}: none of its {len(votes)} votes (run {runs}) is about the clips in {round_folder}: they are votes "
            "on another run, or the clips were sampled again since then; label these clips"
        )
    return votes[there].reset_index(drop=True), int((~there).sum())
