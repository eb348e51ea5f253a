"""Which pairs share which forward pass, in which order and at which noise level: known before any step runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from videodpo.config import Schedule, Timesteps
from videodpo.seeds import derive_seed


@dataclass(frozen=True)
class Visit:
    """One visit of the training to one pair.

    Attributes:
        pair_id: the pair. visit: how often it was visited before.
        level: noise level in (0, 1). noise_seed: seed of the noise that winner and loser share.
    """

    pair_id: int
    visit: int
    level: float
    noise_seed: int


def plan_visits(pair_ids: Sequence[int], schedule: Schedule, seed: int) -> list[Visit]:
    """All visits of a training in their order: every pair once, shuffled, then every pair again.

    Step s takes visits [s * pairs_per_step, (s + 1) * pairs_per_step), in runs of `micro_batch`. The
    reference errors are computed in the same runs, so that at step 0 they equal the policy's to the bit.

    Raises:
        ValueError: there are no pairs.
    """
    if not len(pair_ids):
        raise ValueError("no pairs to train on: pairs.parquet is empty; loosen pairs.filters")
    visits: list[Visit] = []
    epoch = 0
    while len(visits) < schedule.num_steps * schedule.pairs_per_step:
        order = np.random.Generator(np.random.PCG64(derive_seed(seed, "order", epoch))).permutation(len(pair_ids))
        for row in order:
            pair_id = int(pair_ids[row])
            level = _draw_level(schedule.timesteps, derive_seed(seed, "level", pair_id, epoch))
            visits.append(Visit(pair_id, epoch, level, derive_seed(seed, "noise", pair_id, epoch)))
        epoch += 1
    return visits[: schedule.num_steps * schedule.pairs_per_step]


def _draw_level(timesteps: Timesteps, seed: int) -> float:
    generator = np.random.Generator(np.random.PCG64(seed))
    if timesteps.distribution == "uniform":
        level = generator.uniform()
    else:
        level = 1 / (1 + math.exp(-generator.normal(timesteps.mean, timesteps.std)))
    level = timesteps.shift * level / (1 + (timesteps.shift - 1) * level)
    level = timesteps.low + (timesteps.high - timesteps.low) * level
    return float(min(max(level, 1e-4), 1 - 1e-4))
