"""Split work into batches and shards by global position, so that every split gives the same batches."""

from __future__ import annotations

from videodpo.config.errors import InputError

SCORED_TOGETHER = 8  # minimum number of clips: enough frames for the networks' batches, few enough to fit in memory


def shard_batches(
    num_items: int, batch_size: int, shard: int, num_shards: int, *, block: int | None = None
) -> list[tuple[int, range]]:
    """Return the batches of one shard: consecutive complete batches of the global plan.

    The last bits of a network's results depend on the batch. Therefore the number of shards must not decide which items
    share a batch. Shards can be empty.

    Args:
        num_items: number of items over all shards.
        batch_size: items per batch.
        shard: index of the shard, from 0.
        num_shards: number of shards.
        block: number of items that a later stage needs in one shard, a multiple of the batch size.

    Returns:
        (number of the batch in the global plan, positions of its items), in order.

    Raises:
        InputError: there is no such shard.
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
    """Number of clips scored together: a multiple of the sampling batch, so that a shard has complete blocks."""
    return -(-SCORED_TOGETHER // batch_size) * batch_size
