"""Visits stage: plan which pair the training visits at which step, noise level and noise seed."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from videodpo.config import Schedule
from videodpo.config.errors import InputError
from videodpo.dpo.visits import draw_noise_level
from videodpo.models import make_schedule, sampler_noise_levels
from videodpo.runtime.locks import writes
from videodpo.runtime.seeds import derive_seed
from videodpo.runtime.settings import VisitsSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.manifests import edited_inputs
from videodpo.storage.schemas import CLIP_SIZE, VISITS, ClipSize
from videodpo.storage.tables import read_sizes, read_table, write_table

if TYPE_CHECKING:
    from videodpo.models.shared.noise_schedules import NoiseSchedule

log = logging.getLogger(__name__)
# At most one prompt in three is for validation; the training needs the pairs of the others.
LARGEST_HELD_BACK_PART = 3
MicroBatch: TypeAlias = list[tuple[int, int]]
"""(pair_id, visit) of each pair in one forward pass."""


@writes("visits.parquet")
def plan_visits(snapshot: Snapshot[VisitsSettings], round_folder: Path) -> None:
    """Write the plan of all forward passes to `visits.parquet`; it does not depend on the weights of the pairs.

    Args:
        snapshot: settings of the stage.
        round_folder: has pairs and videos.

    Raises:
        InputError: as `choose_visits`.
    """
    settings = snapshot.settings
    pairs = read_table(round_folder / "pairs.parquet", ["pair_id", "prompt_id", "winner_id", "loser_id"])
    sizes = read_sizes(round_folder / "videos")
    noise_schedule = make_schedule(settings.model)
    levels = sampler_levels(settings, {size for size in sizes.values() if None not in size})
    rows = choose_visits(pairs, sizes, settings.schedule, snapshot.seed, noise_schedule, levels)
    path = round_folder / "visits.parquet"
    write_table(path, rows, VISITS, **snapshot.provenance, extra=edited_inputs(round_folder / "pairs.parquet"))
    log.info("%d visits to %d pairs", len(rows), len(pairs))


def choose_visits(
    pairs: pd.DataFrame,
    sizes: Mapping[str, ClipSize],
    schedule: Schedule,
    seed: int,
    noise_schedule: NoiseSchedule,
    levels_by_size: Mapping[ClipSize, Sequence[float]] | None = None,
) -> list[dict[str, Any]]:
    """Plan the visits to the training pairs, then those to the validation pairs.

    Args:
        pairs: has `pair_id`, `prompt_id`, `winner_id` and `loser_id`.
        sizes: size of every clip, by video_id.
        schedule: steps, batch sizes and noise levels.
        seed: seed of the run.
        noise_schedule: gives the timesteps.
        levels_by_size: result of `sampler_levels`.

    Returns:
        Rows of `schemas.VISITS`.

    Raises:
        InputError: there are no pairs to train on, or a pair has two sizes.
    """
    size_of = _sizes_of_pairs(pairs, sizes)
    is_held_back = pairs["prompt_id"].isin(_held_back(pairs["prompt_id"], schedule, seed))
    training = _training(pairs.loc[~is_held_back, "pair_id"].tolist(), size_of, schedule, seed)
    validation = _validation(pairs.loc[is_held_back, "pair_id"].tolist(), size_of, schedule)
    batches_per_step = schedule.global_batch_size // schedule.micro_batch_size
    rows: list[dict[str, Any]] = []
    for number, micro_batch in enumerate(training + validation):
        is_training = number < len(training)
        for pair_id, visit in micro_batch:
            level_seed = derive_seed(seed, "level", pair_id, visit)
            levels = levels_by_size[size_of[pair_id]] if levels_by_size else ()
            rows.append(
                {
                    "step": number // batches_per_step if is_training else None,
                    "pair_id": pair_id,
                    "visit": visit,
                    "noise_seed": derive_seed(seed, "noise", pair_id, visit),
                    "split": "train" if is_training else "validation",
                    "noise_level": draw_noise_level(schedule.timesteps, level_seed, levels),
                    "micro_batch": number,
                }
            )
    for row, timestep in zip(rows, _timesteps(noise_schedule, rows), strict=True):
        row["timestep"] = timestep
    return rows


def sampler_levels(settings: VisitsSettings, sizes: Set[ClipSize]) -> dict[ClipSize, list[float]] | None:
    """Noise levels that match_sampler draws from, by clip size, because some families shift them with the size."""
    if settings.sampler is None:
        return None
    samplings = {size: settings.sampler.model_copy(update=dict(zip(CLIP_SIZE, size, strict=True))) for size in sizes}
    return {size: sampler_noise_levels(settings.model, sampling) for size, sampling in samplings.items()}


def _held_back(prompt_ids: pd.Series, schedule: Schedule, seed: int) -> set[str]:
    """Prompts whose pairs are for validation only."""
    prompts = sorted(set(prompt_ids))
    wanted, most = schedule.validation.num_prompts, len(prompts) // LARGEST_HELD_BACK_PART
    if wanted > most:
        log.warning(
            "schedule.validation.num_prompts: %d; only %d are for validation, a third of the %d prompts with pairs",
            wanted,
            most,
            len(prompts),
        )
    order = np.random.Generator(np.random.PCG64(derive_seed(seed, "validation"))).permutation(len(prompts))
    return {prompts[index] for index in order[: min(wanted, most)]}


def _training(
    pair_ids: Sequence[int], size_of: Mapping[int, ClipSize], schedule: Schedule, seed: int
) -> list[MicroBatch]:
    """Visit every pair once in shuffled order, then every pair again.

    A forward pass needs clips of one size. The visits of each size are therefore collected until there are
    `micro_batch_size` of them; an incomplete micro-batch at the end of an epoch is completed in the next one. If there
    is only one size, the shuffled order is kept.
    """
    if not pair_ids:
        raise InputError("no pairs to train on: pairs.parquet is empty; loosen pairs.filters")
    wanted = schedule.num_steps * schedule.global_batch_size // schedule.micro_batch_size
    micro_batches: list[MicroBatch] = []
    waiting: dict[ClipSize, MicroBatch] = defaultdict(list)
    epoch = 0
    while len(micro_batches) < wanted:
        order = np.random.Generator(np.random.PCG64(derive_seed(seed, "order", epoch))).permutation(len(pair_ids))
        for index in order:
            pair_id = pair_ids[index]
            waiting[size_of[pair_id]].append((pair_id, epoch))
            if len(waiting[size_of[pair_id]]) == schedule.micro_batch_size:
                micro_batches.append(waiting.pop(size_of[pair_id]))
        epoch += 1
    return micro_batches[:wanted]


def _validation(pair_ids: Sequence[int], size_of: Mapping[int, ClipSize], schedule: Schedule) -> list[MicroBatch]:
    """Visit every pair `draws` times; only the last micro-batch of a size may be smaller than the others."""
    measured: dict[ClipSize, MicroBatch] = defaultdict(list)
    for pair_id in pair_ids:
        measured[size_of[pair_id]] += [(pair_id, draw) for draw in range(schedule.validation.draws)]
    micro = schedule.micro_batch_size
    return [visits[start : start + micro] for visits in measured.values() for start in range(0, len(visits), micro)]


def _sizes_of_pairs(pairs: pd.DataFrame, sizes: Mapping[str, ClipSize]) -> dict[int, ClipSize]:
    found = {}
    for pair_id, *clips in zip(pairs["pair_id"], pairs["winner_id"], pairs["loser_id"], strict=True):
        for video_id in clips:
            if video_id not in sizes:
                raise InputError(
                    f"pairs.parquet: video {video_id} is not among the round's videos; re-run the stage pairs"
                )
        winner, loser = (sizes[video_id] for video_id in clips)
        if winner != loser:
            raise InputError(
                f"pairs.parquet: pair {pair_id}: the winner has {' x '.join(map(str, winner))}, the loser "
                f"{' x '.join(map(str, loser))}; to share noise, both need one size; re-run the stage pairs"
            )
        found[int(pair_id)] = winner
    return found


def _timesteps(noise_schedule: NoiseSchedule, rows: Sequence[Mapping[str, Any]]) -> list[float]:
    import torch

    noise_level = torch.tensor([row["noise_level"] for row in rows], dtype=torch.float32)
    return [float(value) for value in noise_schedule.timestep(noise_level)]
