"""Stop a stage if too many clips failed: one failed clip is a row in a table, many are a defect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videodpo.config.errors import RunError
from videodpo.storage.tables import read_metadata, read_rows

NUM_LISTED = 10


def failed_so_far(rows: Sequence[Mapping[str, Any]], path: Path, digest: str) -> dict[str, str]:
    """Collect the failed videos of one shard and, if there are any, of the other shards that exist already.

    Args:
        rows: rows of the shard, with video_id, status and error.
        path: path of the shard's table, which is not written yet.
        digest: digest of the settings; tables with other settings do not count.

    Returns:
        Reason of each failure, by video_id.
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
    """Raise if the share of failures is too large, or nothing is left.

    Args:
        what: the stage or dimension.
        failed: reason of each failure, by key, for example by video_id.
        total: number of items over all shards, failures included: the limit must not depend on the sharding.
        allowed: `max_failed_fraction` of the configuration.
        num_failed: number of failures, if `failed` holds only the first ones.

    Raises:
        RunError: more than `allowed` of `total` failed, or all of them; the message lists the first ten.
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
