"""Pairs to the reference model's errors on winner and loser at every draw that the training will make."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from videodpo import registry
from videodpo.device import choose_device
from videodpo.dpo.visits import plan_visits
from videodpo.files import exclusive, sha256_of
from videodpo.frozen import Frozen, ReferenceSettings
from videodpo.plan import shard_batches
from videodpo.tables import REFERENCE, read_metadata, read_rows, read_table, shard_path, write_table

log = logging.getLogger(__name__)
SAVE_SECONDS = 30.0


def reference_shard(frozen: Frozen[ReferenceSettings], round_folder: Path, shard: int) -> None:
    """Compute one shard of `round<r>/reference`: rows in training order, one a visit.

    The reference is the base model. Its forward passes hold the same visits as the training's, so the
    errors equal the policy's at step 0 to the bit. A killed job goes on from its work file.
    """
    import torch

    from videodpo.dpo.batches import PairData, model_errors

    settings = frozen.settings
    pair_ids = read_table(round_folder / "pairs.parquet", ["pair_id"])["pair_id"]
    visits = plan_visits(pair_ids.tolist(), settings.schedule, frozen.seed)
    batches = shard_batches(len(visits), settings.schedule.micro_batch, shard, settings.reference.shards)
    out = shard_path(round_folder / "reference", shard)
    work = out.parent / "work" / out.name
    inputs = sha256_of(round_folder / "pairs.parquet")

    def save(path: Path, rows: list[dict[str, Any]], extra: dict[str, str]) -> None:
        write_table(path, rows, REFERENCE, stage="reference", digest=frozen.digest, seed=frozen.seed, extra=extra)

    with exclusive(work.with_suffix(".lock")):
        rows: list[dict[str, Any]] = []
        if work.exists():
            made = read_metadata(work)
            if (made.get("config_digest"), made.get("pairs")) == (frozen.digest, inputs):
                rows = read_rows(work)
        todo = [(number, positions) for number, positions in batches if positions.start >= _first(batches) + len(rows)]
        if todo:
            model = registry.load("videodpo.models", settings.model.family)(
                settings.model, choose_device(settings.device)
            )
            data = PairData(frozen.folder, round_folder, model)
        saved = time.monotonic()
        for _, positions in todo:
            run = visits[positions.start : positions.stop]
            with torch.no_grad():
                winner, loser = model_errors(model, data.batch(run))
            for visit, error_winner, error_loser in zip(run, winner.tolist(), loser.tolist(), strict=True):
                rows.append(
                    {
                        "pair_id": visit.pair_id,
                        "visit": visit.visit,
                        "timestep": model.timestep(visit.level),
                        "noise_seed": visit.noise_seed,
                        "ref_error_winner": error_winner,
                        "ref_error_loser": error_loser,
                    }
                )
            if time.monotonic() - saved > SAVE_SECONDS:
                save(work, rows, {"pairs": inputs})
                saved = time.monotonic()
        save(out, rows, {"shard": str(shard), "num_shards": str(settings.reference.shards), "pairs": inputs})
        log.info("reference shard %d: %d visits", shard, len(rows))
        work.unlink(missing_ok=True)


def _first(batches: list[tuple[int, range]]) -> int:
    return batches[0][1].start if batches else 0
