"""Pairs and reference errors to an aligned adapter: the DPO fine-tune, resumable from its full checkpoints."""

from __future__ import annotations

import hashlib
import logging
import math
import resource
import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from videodpo.config import Train
from videodpo.device import choose_device
from videodpo.dpo.visits import Visit, plan_visits
from videodpo.files import exclusive, sha256_of, sha256_of_folder, sync_folder
from videodpo.frozen import Frozen, TrainSettings
from videodpo.models import load_model
from videodpo.seeds import derive_seed
from videodpo.tables import DRIFT_BUCKETS, TRAIN_LOG, read_shards, write_table

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from videodpo.dpo.batches import PairData
    from videodpo.models.base import VideoModel

log = logging.getLogger(__name__)

# What one visit leaves for the log; the order of the columns of a step's statistics.
_STATISTICS = ("loss", "margin", "error_winner", "error_loser", "ref_error_winner", "ref_error_loser", "weight")


def train(frozen: Frozen[TrainSettings], round_folder: Path, previous_adapter: Path | None) -> None:
    """Fine-tune and write `round<r>/adapter` and `train_log.parquet`.

    Args:
        frozen: the stage's settings. round_folder: has pairs, videos and, for `reference: table`, the errors.
        previous_adapter: the adapter of the round before, to go on from; the reference stays the base model.

    Raises:
        RuntimeError: the loss or a gradient is not finite; the message names step, pairs and timesteps.
    """
    from accelerate import Accelerator

    state = round_folder / "state"
    accelerator = Accelerator(cpu=choose_device(frozen.execution.device) == "cpu")
    with exclusive(state / "lock") if accelerator.is_main_process else nullcontext():
        _Training(frozen, round_folder, state, previous_adapter, accelerator).run()


class _Training:
    """One process of the fine-tune; the step's micro-batches are dealt over the processes."""

    def __init__(
        self,
        frozen: Frozen[TrainSettings],
        round_folder: Path,
        state: Path,
        previous_adapter: Path | None,
        accelerator: Accelerator,
    ) -> None:
        import torch

        from videodpo.dpo.batches import PairData

        self.frozen, self.round_folder, self.state = frozen, round_folder, state
        self.settings: Train = frozen.settings.train
        self.schedule = frozen.settings.schedule
        self.accelerator = accelerator
        self.model: VideoModel = load_model(frozen.settings.model, str(accelerator.device))
        self._make_trainable(previous_adapter)
        self.weights = {n: p for n, p in self.model.denoiser.named_parameters() if p.requires_grad}
        self.optimizer: Any = torch.optim.AdamW(
            self.weights.values(), lr=self.settings.learning_rate, weight_decay=self.settings.weight_decay
        )
        self.data: PairData = PairData(frozen.folder, round_folder, self.model)
        self.visits = plan_visits(self.data.pairs["pair_id"].tolist(), self.schedule, frozen.seed)
        self.reference_errors = self._read_reference() if self.settings.reference == "table" else None
        inputs = [round_folder / "pairs.parquet", *sorted((round_folder / "videos").glob("shard-*.parquet"))]
        before = sha256_of_folder(previous_adapter) if previous_adapter else "base"
        known = b"" if self.reference_errors is None else self.reference_errors.tobytes()
        names = [frozen.digest, before, hashlib.sha256(known).hexdigest(), *map(sha256_of, inputs)]
        self.trained_on = hashlib.sha256(" ".join(names).encode()).hexdigest()

    def _make_trainable(self, previous_adapter: Path | None) -> None:
        model, settings = self.model, self.settings
        if settings.method == "lora":
            model.add_lora(settings.lora, derive_seed(self.frozen.seed, "lora"))
            if previous_adapter:
                model.resume_lora(previous_adapter)
        else:
            if settings.reference == "live":
                model.keep_reference()
            if previous_adapter:
                model.load_adapter(previous_adapter)
            model.denoiser.requires_grad_(True)
        if settings.gradient_checkpointing:
            model.denoiser.enable_gradient_checkpointing()

    def _read_reference(self) -> np.ndarray:
        """Float32 [visits, 2], winner and loser, in the order of the plan."""
        from videodpo.dpo.batches import timesteps

        table = read_shards(self.round_folder / "reference")
        named = zip(self.visits, timesteps(self.model, self.visits), strict=True)
        planned = [(visit.pair_id, visit.noise_seed, timestep) for visit, timestep in named]
        if list(zip(table["pair_id"], table["noise_seed"], table["timestep"], strict=True)) != planned:
            raise ValueError("reference: the table was made for other pairs or another schedule; run the stage again")
        return table[["ref_error_winner", "ref_error_loser"]].to_numpy(np.float32, copy=True)

    def run(self) -> None:
        from accelerate import DistributedDataParallelKwargs

        from videodpo.dpo.checkpoints import load_checkpoint, save_checkpoint

        done, rows = load_checkpoint(self.state, self.trained_on, self.weights, self.optimizer)
        log.info("training from step %d of %d", done, self.schedule.num_steps)
        if self.model.leaves_weights_out:
            self.accelerator.ddp_handler = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.model.denoiser, self.optimizer = self.accelerator.prepare(self.model.denoiser, self.optimizer)
        for step in range(done, self.schedule.num_steps):
            rows.append(self._step(step))
            if self.accelerator.is_main_process and (step + 1) % self.settings.checkpoint_steps == 0:
                save_checkpoint(self.state, step + 1, self.trained_on, self.weights, self.optimizer, rows)
            if (step + 1) % 10 == 0:
                row = rows[-1]
                log.info(
                    "step %d loss %.4f margin %+.4f accuracy %.2f",
                    step + 1,
                    row["loss"],
                    row["margin"],
                    row["accuracy"],
                )
        if self.accelerator.is_main_process:
            self._save(rows)
        self.accelerator.wait_for_everyone()

    def _save(self, rows: list[dict[str, Any]]) -> None:
        self.model.denoiser = self.accelerator.unwrap_model(self.model.denoiser)
        adapter = self.round_folder / "adapter"
        partial = adapter.with_name(".adapter.partial")
        for folder in (partial, adapter):
            if folder.exists():
                shutil.rmtree(folder)
        self.model.save_adapter(partial)
        partial.rename(adapter)
        sync_folder(adapter.parent)
        frozen = self.frozen
        out = self.round_folder / "train_log.parquet"
        write_table(out, rows, TRAIN_LOG, stage="train", digest=frozen.digest, seed=frozen.seed)

    def _step(self, step: int) -> dict[str, Any]:
        import torch

        start = time.monotonic()
        per_step, per_micro = self.schedule.pairs_per_step, self.schedule.micro_batch
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        # Dropout follows from the step, on every device: a resumed run needs no state of any generator.
        torch.manual_seed(derive_seed(self.frozen.seed, "dropout", step, rank))
        rate = self.settings.learning_rate * min(1.0, (step + 1) / max(1, self.settings.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        micro_starts = list(range(step * per_step, (step + 1) * per_step, per_micro))
        if len(micro_starts) % world:
            raise ValueError(f"schedule: {len(micro_starts)} micro-batches a step do not divide over {world} processes")
        statistics = []
        for first in micro_starts[rank::world]:
            statistics.append(self._accumulate(step, first, per_micro, world))
        norm = self.accelerator.clip_grad_norm_(list(self.weights.values()), self.settings.max_grad_norm)
        table = self.accelerator.gather(torch.cat(statistics)).cpu().double().numpy()
        visits = self._gathered_visits(micro_starts, per_micro, world)
        if not (math.isfinite(float(norm)) and np.isfinite(table).all()):
            bad = [f"pair {v.pair_id} at noise level {v.level:.4f}" for v in visits]
            raise RuntimeError(
                f"step {step}: loss or gradient is not finite (gradient norm {float(norm)}); {', '.join(bad)}"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        seconds = time.monotonic() - start
        row = _log_row(table, visits)
        row |= {
            "step": step,
            "epoch": (step + 1) * per_step / len(self.data.pairs),
            "lr": rate,
            "grad_norm": float(norm),
        }
        return row | {
            "seconds": seconds,
            "samples_per_second": 2 * per_step / seconds,
            "max_memory_mb": _peak_memory_mb(),
        }

    def _gathered_visits(self, micro_starts: Sequence[int], per_micro: int, world: int) -> list[Visit]:
        """The step's visits in the order in which `gather` returns their statistics."""
        order = [first for rank in range(world) for first in micro_starts[rank::world]]
        return [visit for first in order for visit in self.visits[first : first + per_micro]]

    def _accumulate(self, step: int, first: int, per_micro: int, world: int) -> torch.Tensor:
        """Forward and backward of one micro-batch; statistics [B, len(_STATISTICS)]."""
        import torch

        from videodpo.dpo.batches import model_errors
        from videodpo.dpo.objectives import diffusion_dpo_loss_from_errors

        visits = self.visits[first : first + per_micro]
        batch = self.data.batch(visits, [self._drops_caption(visit) for visit in visits])
        if self.reference_errors is None:
            with torch.no_grad(), self.model.reference_weights():
                ref_w, ref_l = model_errors(self.model, batch)
        else:
            known = torch.from_numpy(self.reference_errors[first : first + per_micro]).to(batch.weight.device)
            ref_w, ref_l = known[:, 0], known[:, 1]
        policy_w, policy_l = model_errors(self.model, batch)
        result = diffusion_dpo_loss_from_errors(
            policy_w, policy_l, ref_w, ref_l, beta=self.settings.beta, weight=batch.weight
        )
        # The step's loss is the mean over all its pairs; data parallelism averages over processes.
        self.accelerator.backward(result.per_pair.sum() * world / self.schedule.pairs_per_step)
        columns = (result.per_pair, result.margin, policy_w, policy_l, ref_w, ref_l, batch.weight)
        return torch.stack([column.detach().float() for column in columns], dim=1)

    def _drops_caption(self, visit: Visit) -> bool:
        share = self.settings.caption_dropout
        if not share:
            return False
        seed = derive_seed(self.frozen.seed, "caption dropout", visit.pair_id, visit.visit)
        return bool(np.random.Generator(np.random.PCG64(seed)).uniform() < share)


def _log_row(table: np.ndarray, visits: Sequence[Visit]) -> dict[str, Any]:
    """Means over a step's pairs, and drift of winner and loser from the reference by quarter of the noise levels."""
    columns = dict(zip(_STATISTICS, table.T, strict=True))
    row: dict[str, Any] = {name: float(values.mean()) for name, values in columns.items() if name != "weight"}
    row |= {"weight_mean": float(columns["weight"].mean()), "accuracy": float((columns["margin"] > 0).mean())}
    buckets = np.array([min(int(visit.level * DRIFT_BUCKETS), DRIFT_BUCKETS - 1) for visit in visits])
    for side in ("winner", "loser"):
        drift = columns[f"error_{side}"] - columns[f"ref_error_{side}"]
        for bucket in range(DRIFT_BUCKETS):
            inside = drift[buckets == bucket]
            row[f"{side}_drift_{bucket}"] = float(inside.mean()) if len(inside) else None
    return row


def _peak_memory_mb() -> float:
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
