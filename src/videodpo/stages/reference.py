"""Reference stage: errors of the reference model on winner and loser, for every visit of the training."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from videodpo.config.errors import RunError
from videodpo.dpo.inputs import digest_of_inputs
from videodpo.dpo.visits import Visit, read_visits
from videodpo.models import load_model
from videodpo.runtime.countdown import Countdown
from videodpo.runtime.locks import exclusive
from videodpo.runtime.settings import ReferenceSettings
from videodpo.runtime.sharding import shard_batches
from videodpo.runtime.signals import Interrupts
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.manifests import edited_inputs
from videodpo.storage.progress import Progress
from videodpo.storage.schemas import REFERENCE
from videodpo.storage.tables import shard_path, write_table

log = logging.getLogger(__name__)


def reference_shard(snapshot: Snapshot[ReferenceSettings], round_folder: Path, shard: int) -> None:
    """Compute one shard of `round<r>/reference`: one row per visit, in training order.

    The reference is the base model. Its forward passes hold the same visits as those of the training, so that the
    errors are bit-identical to the policy's at step 0. A killed job resumes after its last finished micro-batch.

    A non-finite error is logged as a warning and stored as null; the training skips the steps that visit it.

    Args:
        snapshot: settings of the stage.
        round_folder: has pairs, visits and videos.
        shard: index of the shard, from 0.

    Raises:
        Interrupted: a signal asked to stop; finished micro-batches are saved.
        RunError: no visit of the shard has finite errors.
    """
    import torch

    from videodpo.dpo.batches import PairData, model_errors
    from videodpo.models.shared.prompt_embeds import CachedTexts

    settings = snapshot.settings
    plan = read_visits(round_folder)
    visits = plan.visits
    runs = [
        plan.micro_batches[number]
        for number, _ in shard_batches(len(plan.micro_batches), 1, shard, settings.reference.shards)
    ]
    out = shard_path(round_folder / "reference", shard)
    extra = {"shard": str(shard), "num_shards": str(settings.reference.shards)}
    extra["pairs"] = digest_of_inputs(plan, round_folder)
    extra |= edited_inputs(round_folder / "pairs.parquet")

    with exclusive(snapshot.folder, out), Interrupts() as interrupts:
        # Keep the log when the shard is finished. Errors do not depend on scores and weights: if those change but the
        # pairs do not, the errors are reused.
        progress = Progress(out.parent / "work" / f"{out.stem}.jsonl", [snapshot.digest, extra["pairs"]])
        done = len(progress.finished)
        todo = runs[done:]
        with Countdown(log, out.name, len(runs), "micro-batches", done=done) as countdown:
            if todo:
                model = load_model(settings.model, snapshot.execution.device, parts={"denoiser"})
                data = PairData(round_folder, CachedTexts(round_folder), model.device)
            for number, indices in enumerate(todo, start=done + 1):
                run = visits[indices.start : indices.stop]
                with torch.no_grad():
                    winner, loser = model_errors(model, data.batch(run))
                progress.append([_row(*column) for column in zip(run, winner.tolist(), loser.tolist(), strict=True)])
                countdown.add(item=f"micro-batch {number}")
                interrupts.stop_here(f"{number} micro-batches")
        rows = list(chain(*progress.finished))
        _refuse_none_finite(rows)
        write_table(out, rows, REFERENCE, **snapshot.provenance, extra=extra)
        log.info("reference shard %d: %d visits", shard, len(rows))


def _row(visit: Visit, error_winner: float, error_loser: float) -> dict[str, Any]:
    if not (math.isfinite(error_winner) and math.isfinite(error_loser)):
        log.warning(
            "pair %d, visit %d, timestep %g: the base model's errors are %g and %g; the training skips this step. "
            "Check the pair's latents and model.dtype",
            *(visit.pair_id, visit.visit, visit.timestep, error_winner, error_loser),
        )
    return {
        "pair_id": visit.pair_id,
        "visit": visit.visit,
        "timestep": visit.timestep,
        "noise_seed": visit.noise_seed,
        "ref_error_winner": error_winner if math.isfinite(error_winner) else None,
        "ref_error_loser": error_loser if math.isfinite(error_loser) else None,
    }


def _refuse_none_finite(rows: Sequence[Mapping[str, Any]]) -> None:
    if rows and all(row["ref_error_winner"] is None or row["ref_error_loser"] is None for row in rows):
        first = rows[0]
        raise RunError(
            f"reference: none of {len(rows)} visits has finite errors, the first is pair {first['pair_id']}, visit "
            f"{first['visit']}, timestep {first['timestep']:g}; check the latents, and model.dtype"
        )
