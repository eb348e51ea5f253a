"""Plan of all forward passes, read from `visits.parquet`: which pairs share a pass, and at which noise level."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from videodpo.config import Schedule, Timesteps
from videodpo.config.errors import InputError
from videodpo.runtime.seeds import derive_seed
from videodpo.storage.schemas import VISITS
from videodpo.storage.tables import read_table


@dataclass(frozen=True)
class Visit:
    """One visit of the training to one pair.

    Attributes:
        pair_id: the visited pair.
        visit: number of earlier visits to this pair.
        noise_level: in (0, 1).
        noise_seed: seed of the noise that winner and loser share.
        timestep: noise level on the model family's own scale.
    """

    pair_id: int
    visit: int
    noise_level: float
    noise_seed: int
    timestep: float


@dataclass(frozen=True)
class Plan:
    """All forward passes of a training.

    Step s takes visits [s * b, (s + 1) * b) of `training`, with b = global_batch_size. Reference errors are computed in
    the same micro-batches, followed by those of `validation`. At step 0 they are therefore bit-identical to the
    policy's.
    """

    training: list[Visit]
    validation: list[Visit]
    micro_batches: list[range]
    """Indices into `visits` that share a forward pass; all clips of a micro-batch have the same size."""
    num_pairs: int
    """Number of pairs in the training split."""

    @cached_property
    def visits(self) -> list[Visit]:
        """All visits: those of the training, then those of the validation."""
        return self.training + self.validation

    @property
    def validation_micro_batches(self) -> list[range]:
        """Indices into `visits` that share a forward pass of the validation."""
        return [run for run in self.micro_batches if run.start >= len(self.training)]

    def require(self, schedule: Schedule) -> None:
        """Raise InputError if the steps or micro-batches of the training do not match `schedule`."""
        num_visits = schedule.num_steps * schedule.global_batch_size
        lengths = {len(run) for run in self.micro_batches if run.start < len(self.training)}
        if len(self.training) != num_visits or lengths != {schedule.micro_batch_size}:
            raise InputError(
                f"visits.parquet: {len(self.training)} visits for the training, {schedule.num_steps} steps of "
                f"{schedule.global_batch_size} in micro-batches of {schedule.micro_batch_size} are needed; "
                "re-run the stage visits"
            )


def read_visits(round_folder: Path) -> Plan:
    """Read a round's `visits.parquet`.

    Raises:
        InputError: it does not match the pairs, or its rows are not in the order of their steps.
    """
    path = round_folder / "visits.parquet"
    table = read_table(path, VISITS.names)
    pair_ids = set(read_table(round_folder / "pairs.parquet", ["pair_id"])["pair_id"])
    if unknown := set(table["pair_id"]) - pair_ids:
        raise InputError(f"{path}: pair {min(unknown)} is not in pairs.parquet; re-run the stage visits")
    count = int((table["split"] == "train").sum())
    steps = table["step"]
    if not (steps[:count].is_monotonic_increasing and steps[count:].isna().all()):
        raise InputError(
            f"{path}: rows must be in the order of their steps, with validation last; re-run the stage visits"
        )
    names = ("pair_id", "visit", "noise_level", "noise_seed", "timestep")
    visits = [Visit(*row) for row in zip(*(table[name].tolist() for name in names), strict=True)]
    ends = np.flatnonzero(np.diff(table["micro_batch"])) + 1
    micro_batches = [range(start, stop) for start, stop in pairwise([0, *ends.tolist(), len(visits)])]
    num_pairs = len(pair_ids) - len({visit.pair_id for visit in visits[count:]})
    return Plan(visits[:count], visits[count:], micro_batches, num_pairs)


def separate_draw(visit: Visit, timesteps: Timesteps, seed: int) -> tuple[float, int]:
    """Draw a separate noise level and noise seed for the loser, as the released code does.

    Args:
        visit: the visit, whose own draw is then the winner's alone.
        timesteps: distribution of the noise levels.
        seed: seed of the run.

    Returns:
        Noise level in (0, 1), noise seed.
    """
    return (
        draw_noise_level(timesteps, derive_seed(seed, "loser level", visit.pair_id, visit.visit)),
        derive_seed(seed, "loser noise", visit.pair_id, visit.visit),
    )


def draw_noise_level(timesteps: Timesteps, seed: int, sampler_levels: Sequence[float] = ()) -> float:
    """Draw one noise level in (0, 1).

    Args:
        sampler_levels: noise levels of which match_sampler draws one, each with the same probability.
    """
    generator = np.random.Generator(np.random.PCG64(seed))
    if timesteps.distribution == "match_sampler":
        noise_level = float(generator.choice(sampler_levels))
    else:
        noise_level = _draw_from_density(timesteps, generator)
    return float(min(max(noise_level, 1e-4), 1 - 1e-4))


def _draw_from_density(timesteps: Timesteps, generator: np.random.Generator) -> float:
    if timesteps.distribution == "uniform":
        noise_level = generator.uniform()
    else:
        noise_level = 1 / (1 + math.exp(-generator.normal(timesteps.mean, timesteps.std)))
    noise_level = timesteps.shift * noise_level / (1 + (timesteps.shift - 1) * noise_level)
    return timesteps.low + (timesteps.high - timesteps.low) * noise_level
