"""Policies that choose which two of a prompt's videos become a pair."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from videodpo.runtime.seeds import derive_seed


def rank_pairs(policy: str, num_videos: int) -> list[tuple[int, int]]:
    """Pairs of ranks (0 is best; winner first) that a policy takes, or chooses from, in a group of videos.

    Args:
        policy: best_worst; rank:i-j with ranks from 1; mixed_ranks, which spreads all rank pairs evenly over the
            groups; all; or random, which draws two different videos uniformly.
        num_videos: size of the group.

    Returns:
        Empty if there are too few videos.
    """
    everything = list(itertools.combinations(range(num_videos), 2))
    if not everything:
        return []
    if policy == "best_worst":
        return [(0, num_videos - 1)]
    if policy in ("all", "mixed_ranks", "random"):
        return everything
    assert policy.startswith("rank:"), policy
    better, worse = (int(rank) - 1 for rank in policy[len("rank:") :].split("-"))
    return [(better, worse)] if worse < num_videos else []


def chosen(
    policy: str, num_pairs: int, indices: NDArray[np.int64], prompt_ids: Sequence[str], seed: int
) -> NDArray[np.int64]:
    """Indices of the `rank_pairs` that each group takes, [groups, pairs per group].

    Args:
        indices: index of each group among all groups.
        prompt_ids, seed: determine a random choice.
    """
    if policy == "mixed_ranks":
        return indices[:, None] % num_pairs
    if policy == "random":
        seeds = [derive_seed(seed, "pair", prompt_id) for prompt_id in prompt_ids]
        drawn = [np.random.Generator(np.random.PCG64(one)).integers(num_pairs) for one in seeds]
        return np.array(drawn, dtype=np.int64)[:, None]
    return np.broadcast_to(np.arange(num_pairs), (len(indices), num_pairs))
