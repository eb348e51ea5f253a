"""Batches depend on global positions and not on the shard count."""

import pytest

from videodpo.runtime.sharding import shard_batches


@pytest.mark.parametrize("num_shards", [1, 2, 3, 7, 40])
@pytest.mark.parametrize(("num_items", "batch_size"), [(0, 4), (1, 4), (4, 4), (23, 4), (23, 1), (5, 100)])
def test_every_shard_count_gives_the_same_batches(num_items, batch_size, num_shards):
    split = [batch for shard in range(num_shards) for batch in shard_batches(num_items, batch_size, shard, num_shards)]
    assert split == shard_batches(num_items, batch_size, 0, 1)


@pytest.mark.parametrize(("num_items", "batch_size"), [(23, 4), (24, 4), (3, 5)])
def test_every_item_is_in_exactly_one_batch(num_items, batch_size):
    positions = [p for _, batch in shard_batches(num_items, batch_size, 0, 1) for p in batch]
    assert positions == list(range(num_items))


def test_only_the_last_batch_may_be_short():
    assert [len(batch) for _, batch in shard_batches(10, 4, 0, 1)] == [4, 4, 2]


def test_shards_differ_by_one_batch_at_most():
    counts = [len(shard_batches(100, 3, shard, 7)) for shard in range(7)]
    assert sum(counts) == 34
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize("shard", [-1, 3])
def test_a_shard_that_does_not_exist_is_refused(shard):
    with pytest.raises(ValueError, match=f"shard {shard}: there are 3"):
        shard_batches(10, 2, shard, 3)
