"""Splits work into batches and shards by global position, so that every split gives the same batches."""

from __future__ import annotations

from videodpo.config.errors import InputError

SCORED_TOGETHER = 8  # clips at least: enough frames for the networks' batches, few enough to lie in memory


def shard_batches(
    num_items: int, batch_size: int, shard: int, num_shards: int, *, block: int | None = None
) -> list[tuple[int, range]]:
    """The batches of one shard: a run of whole batches of the global plan.

    A batch of networks' inputs differs from single ones in the last bits, so which items share a batch
    must not depend on the shard count. A shard can be empty.

    Args:
        block: items that must lie in one shard for a later stage's sake, a multiple of the batch size.

    Returns:
        (number of the batch in the global plan, positions of its items), in order.

    Raises:
        InputError: no such shard.
    """
    if not 0 <= shard < num_shards:
        raise InputError(f"shard {shard}: there are {num_shards}, numbered from 0")
    block = block or batch_size
    assert block % batch_size == 0
    num_blocks = -(-num_items // block)
    start, stop = (min(number * num_blocks // num_shards * block, num_items) for number in (shard, shard + 1))
    return [
        (first // batch_size, range(first, min(first + batch_size, stop))) for first in range(start, stop, batch_size)
    ]


def block_size(batch_size: int) -> int:
    """Clips that are scored together: whole batches of the sampling, so that a shard is a run of whole blocks."""
    return -(-SCORED_TOGETHER // batch_size) * batch_size
