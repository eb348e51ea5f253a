"""Which pairs share which forward pass, in which order and at which noise level: known before any step runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from videodpo.config import Schedule, Timesteps
from videodpo.config.errors import InputError
from videodpo.runtime.seeds import derive_seed
from videodpo.storage.schemas import ClipSize
from videodpo.storage.tables import read_sizes, read_table


@dataclass(frozen=True)
class Visit:
    """One visit of the training to one pair.

    Attributes:
        pair_id: the pair. visit: how often it was visited before.
        level: noise level in (0, 1). noise_seed: seed of the noise that winner and loser share.
    """

    pair_id: int
    visit: int
    noise_level: float
    noise_seed: int


@dataclass(frozen=True)
class Plan:
    """Every forward pass of a training.

    Step s takes visits [s * b, (s + 1) * b) of `training`, with b = global_batch_size. The reference errors are
    computed in the same micro-batches, `validation` after them, so that at step 0 they equal the policy's to the bit.
    """

    training: list[Visit]
    validation: list[Visit]
    micro_batches: list[range]
    """Indices in `visits` that share a forward pass, their clips all of one size: `micro_batch_size` of them, fewer
    only at the end of a size's validation."""
    num_pairs: int
    """Pairs that are trained on."""

    @cached_property
    def visits(self) -> list[Visit]:
        return self.training + self.validation

    @property
    def validation_micro_batches(self) -> list[range]:
        return [run for run in self.micro_batches if run.start >= len(self.training)]


def read_plan(round_folder: Path, schedule: Schedule, seed: int) -> Plan:
    """The plan of a round, from its pairs and videos; errors as `make_plan`."""
    return make_plan(read_table(round_folder / "pairs.parquet"), read_sizes(round_folder / "videos"), schedule, seed)


def make_plan(pairs: pd.DataFrame, sizes: Mapping[str, ClipSize], schedule: Schedule, seed: int) -> Plan:
    """All visits: to the pairs that are trained on, and to those of the held-back prompts, which are only measured.

    Args:
        pairs: has `pair_id`, `prompt_id`, `winner_id` and `loser_id`. sizes: of every clip, by its video_id.

    Raises:
        ValueError: there are no pairs, or too few prompts to hold that many back; a pair has no one size.
    """
    prompts = sorted(set(pairs["prompt_id"]))
    wanted = schedule.validation.num_prompts
    if wanted and wanted >= len(prompts):
        raise InputError(f"schedule.validation.num_prompts: {wanted} of the {len(prompts)} prompts that have pairs")
    order = np.random.Generator(np.random.PCG64(derive_seed(seed, "validation"))).permutation(len(prompts))
    held_back = {prompts[index] for index in order[:wanted]}
    is_held_back = pairs["prompt_id"].isin(held_back)
    trained = pairs.loc[~is_held_back, "pair_id"].tolist()
    size_of = _sizes_of_pairs(pairs, sizes)
    training = plan_visits(trained, schedule, seed, size_of)
    measured: dict[ClipSize, list[Visit]] = defaultdict(list)
    for pair_id in pairs.loc[is_held_back, "pair_id"].tolist():
        draws = range(schedule.validation.draws)
        measured[size_of[pair_id]] += [_visit(pair_id, draw, schedule.timesteps, seed) for draw in draws]
    micro = schedule.micro_batch_size
    runs = [range(start, start + micro) for start in range(0, len(training), micro)]
    for visits in measured.values():
        first = runs[-1].stop
        stop = first + len(visits)
        runs += [range(start, min(start + micro, stop)) for start in range(first, stop, micro)]
    return Plan(training, [visit for visits in measured.values() for visit in visits], runs, len(trained))


def plan_visits(
    pair_ids: Sequence[int], schedule: Schedule, seed: int, size_of: Mapping[int, ClipSize] | None = None
) -> list[Visit]:
    """The training's visits in their order: every pair once, shuffled, then every pair again.

    A forward pass takes clips of one size, so each size's visits wait until there are `micro_batch_size` of them: the
    last ones of an epoch for the next epoch's. Of one size alone, the order stays as it was shuffled.

    Args:
        size_of: size by pair_id; None where all are alike.

    Raises:
        ValueError: there are no pairs.
    """
    if not len(pair_ids):
        raise InputError("no pairs to train on: pairs.parquet is empty; loosen pairs.filters")
    visits: list[Visit] = []
    waiting: dict[ClipSize | None, list[Visit]] = defaultdict(list)
    epoch = 0
    while len(visits) < schedule.num_steps * schedule.global_batch_size:
        order = np.random.Generator(np.random.PCG64(derive_seed(seed, "order", epoch))).permutation(len(pair_ids))
        for row in order:
            pair_id = int(pair_ids[row])
            run = waiting[size_of[pair_id] if size_of else None]
            run.append(_visit(pair_id, epoch, schedule.timesteps, seed))
            if len(run) == schedule.micro_batch_size:
                visits += run
                run.clear()
        epoch += 1
    return visits[: schedule.num_steps * schedule.global_batch_size]


def _sizes_of_pairs(pairs: pd.DataFrame, sizes: Mapping[str, ClipSize]) -> dict[int, ClipSize]:
    found = {}
    for pair_id, *clips in zip(pairs["pair_id"], pairs["winner_id"], pairs["loser_id"], strict=True):
        for video_id in clips:
            if video_id not in sizes:
                raise InputError(f"pairs.parquet: video {video_id} is not among the round's videos; make pairs again")
        winner, loser = (sizes[video_id] for video_id in clips)
        if winner != loser:
            raise InputError(
                f"pairs.parquet: pair {pair_id}: the winner has {' x '.join(map(str, winner))}, the loser "
                f"{' x '.join(map(str, loser))}; both get the same noise, so they need one size: make pairs again"
            )
        found[int(pair_id)] = winner
    return found


def separate_draw(visit: Visit, timesteps: Timesteps, seed: int) -> tuple[float, int]:
    """The loser's own noise level and noise seed, as the released code draws them."""
    return (
        _draw_level(timesteps, derive_seed(seed, "loser level", visit.pair_id, visit.visit)),
        derive_seed(seed, "loser noise", visit.pair_id, visit.visit),
    )


def _visit(pair_id: int, number: int, timesteps: Timesteps, seed: int) -> Visit:
    noise_level = _draw_level(timesteps, derive_seed(seed, "level", pair_id, number))
    return Visit(pair_id, number, noise_level, derive_seed(seed, "noise", pair_id, number))


def _draw_level(timesteps: Timesteps, seed: int) -> float:
    generator = np.random.Generator(np.random.PCG64(seed))
    if timesteps.distribution == "uniform":
        noise_level = generator.uniform()
    else:
        noise_level = 1 / (1 + math.exp(-generator.normal(timesteps.mean, timesteps.std)))
    noise_level = timesteps.shift * noise_level / (1 + (timesteps.shift - 1) * noise_level)
    noise_level = timesteps.low + (timesteps.high - timesteps.low) * noise_level
    return float(min(max(noise_level, 1e-4), 1 - 1e-4))
