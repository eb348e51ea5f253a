"""Which two videos of a prompt become a pair."""

from __future__ import annotations

import itertools

import numpy as np

from videodpo.seeds import derive_seed


def ranks_of(policy: str, num_videos: int, position: int, prompt_id: str, seed: int) -> list[tuple[int, int]]:
    """The pairs of ranks (0 is best; winner first) that a policy takes from one prompt.

    Args:
        policy: best_worst; rank:i-j with ranks from 1; mixed_ranks, which deals all rank pairs evenly over
            the prompts; all; or random, two different videos drawn uniformly.
        num_videos: scored videos of the prompt. position: the prompt's place among those paired.
        prompt_id, seed: what a random choice follows from.

    Returns:
        Empty where the prompt has too few videos.
    """
    everything = list(itertools.combinations(range(num_videos), 2))
    if not everything:
        return []
    if policy == "best_worst":
        return [(0, num_videos - 1)]
    if policy == "all":
        return everything
    if policy == "mixed_ranks":
        return [everything[position % len(everything)]]
    if policy == "random":
        generator = np.random.Generator(np.random.PCG64(derive_seed(seed, "pair", prompt_id)))
        return [everything[int(generator.integers(len(everything)))]]
    assert policy.startswith("rank:"), policy
    better, worse = (int(rank) - 1 for rank in policy[len("rank:") :].split("-"))
    return [(better, worse)] if worse < num_videos else []
