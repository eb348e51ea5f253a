"""Stops a stage when too much of it failed: a failed clip is a row, many are a defect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videodpo.config.errors import RunError
from videodpo.storage.tables import read_metadata, read_rows

NUM_LISTED = 10


def failed_so_far(rows: Sequence[Mapping[str, Any]], path: Path, digest: str) -> dict[str, str]:
    """Failed videos and their reasons: of one shard and, if it has any, of the others that are there already.

    Args:
        rows: the shard's, with video_id, status and error. path: its table's name, not written yet.
        digest: of the settings; tables of other settings do not count.
    """
    failed = {row["video_id"]: row["error"] for row in rows if row["status"] == "failed"}
    if failed:
        for other in sorted(path.parent.glob("shard-*.parquet")):
            if other != path and read_metadata(other).get("config_digest") == digest:
                failed |= {row["video_id"]: row["error"] for row in read_rows(other) if row["status"] == "failed"}
    return failed


def refuse_too_many(
    what: str, failed: Mapping[str, str], total: int, allowed: float, *, num_failed: int | None = None
) -> None:
    """Raise when the share of failures is too large, or nothing is left.

    Args:
        what: the stage or dimension. failed: key (a video, for example) to reason. total: how many there are with
            them, over all shards: what is allowed must not depend on how the work was cut.
        allowed: the configuration's `max_failed_fraction`. num_failed: where `failed` has only the first of them.

    Raises:
        RunError: more than `allowed` of `total`, or all of them; the first ten are listed.
    """
    count = len(failed) if num_failed is None else num_failed
    if not count or (count <= allowed * total and count < total):
        return
    lines = [f"\n  {key}: {reason}" for key, reason in list(failed.items())[:NUM_LISTED]]
    more = f"\n  and {count - NUM_LISTED} more" if count > NUM_LISTED else ""
    raise RunError(
        f"{what}: {count} of {total} clips failed, max_failed_fraction is {allowed:g} (fix them, or raise it):"
        + "".join(lines)
        + more
    )
