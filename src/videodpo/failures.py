"""Stops a stage when too much of it failed: a failed clip is a row, many are a defect."""

from __future__ import annotations

from collections.abc import Mapping

NUM_LISTED = 10


def refuse_too_many(what: str, failed: Mapping[str, str], total: int, allowed: float) -> None:
    """Raise when the share of failures is too large, or nothing is left.

    Args:
        what: the stage or dimension. failed: key (a video, for example) to reason. total: how many there were with
            them, over all shards: what is allowed must not depend on how the work was cut.
        allowed: the configuration's `max_failed_fraction`.

    Raises:
        RuntimeError: more than `allowed` of `total`, or all of them; the first ten are listed.
    """
    if not failed or (len(failed) <= allowed * total and len(failed) < total):
        return
    lines = [f"\n  {key}: {reason}" for key, reason in list(failed.items())[:NUM_LISTED]]
    more = f"\n  and {len(failed) - NUM_LISTED} more" if len(failed) > NUM_LISTED else ""
    raise RuntimeError(
        f"{what}: {len(failed)} of {total} clips failed, max_failed_fraction is {allowed:g} (mend them, or raise it):"
        + "".join(lines)
        + more
    )
