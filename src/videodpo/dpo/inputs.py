"""Digest of the inputs of a training and of its reference errors: rows and clips, independent of their files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from videodpo.dpo.visits import Plan
from videodpo.storage.tables import read_metadata, read_shards, read_table, shard_path


def digest_of_inputs(plan: Plan, round_folder: Path, more: Sequence[str] = ()) -> str:
    """Return the SHA-256 of the visits, the paired clips, their bytes, and the settings that made the latents.

    A table that is rewritten with the same rows, for example by another commit, has the same digest.

    Args:
        more: additional columns of `pairs.parquet` to include.
    """
    videos = round_folder / "videos"
    pairs = read_table(round_folder / "pairs.parquet", ["pair_id", "prompt_id", "winner_id", "loser_id", *more])
    clips = read_shards(videos).set_index("video_id")["sha256"]
    for name in ("winner", "loser"):
        pairs[f"{name}_sha256"] = pairs[f"{name}_id"].map(clips)
    lines = [" ".join(map(str, row)) for row in pairs.itertuples(index=False)]
    lines += [repr(plan), read_metadata(shard_path(videos, 0))["config_digest"]]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
