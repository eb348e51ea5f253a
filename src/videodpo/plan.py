"""Splits work into batches and shards by global position, so that every split gives the same batches."""

from __future__ import annotations


def shard_batches(num_items: int, batch_size: int, shard: int, num_shards: int) -> list[tuple[int, range]]:
    """The batches of one shard: a run of whole batches of the global plan.

    A batch of networks' inputs differs from single ones in the last bits, so which items share a batch
    must not depend on the shard count. A shard can be empty.

    Returns:
        (number of the batch in the global plan, positions of its items), in order.

    Raises:
        ValueError: no such shard.
    """
    if not 0 <= shard < num_shards:
        raise ValueError(f"shard {shard}: there are {num_shards}, numbered from 0")
    num_batches = -(-num_items // batch_size)
    first, last = shard * num_batches // num_shards, (shard + 1) * num_batches // num_shards
    return [(b, range(b * batch_size, min((b + 1) * batch_size, num_items))) for b in range(first, last)]
