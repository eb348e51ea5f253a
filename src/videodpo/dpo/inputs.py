"""Identity of what a training and its reference errors are computed from: rows and clips, not the files around them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from videodpo.dpo.visits import Plan
from videodpo.storage.tables import read_metadata, read_shards, read_table, shard_path


def digest_of_inputs(plan: Plan, round_folder: Path, more: Sequence[str] = ()) -> str:
    """SHA-256 of the visits, which clips are paired, their bytes, and how latents were made.

    A table that is written again with the same rows, for example by another commit, has the same digest.

    Args:
        more: further columns of `pairs.parquet`.
    """
    videos = round_folder / "videos"
    pairs = read_table(round_folder / "pairs.parquet", ["pair_id", "prompt_id", "winner_id", "loser_id", *more])
    clips = read_shards(videos).set_index("video_id")["sha256"]
    for name in ("winner", "loser"):
        pairs[f"{name}_sha256"] = pairs[f"{name}_id"].map(clips)
    lines = [" ".join(map(str, row)) for row in pairs.itertuples(index=False)]
    lines += [repr(plan), read_metadata(shard_path(videos, 0))["config_digest"]]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
