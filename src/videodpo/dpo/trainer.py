"""Training loop of one rank: optimizer steps over the plan's visits, with log, checkpoints and resume."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from accelerate.utils import gather_object

from videodpo.config.errors import InputError
from videodpo.dpo.checkpoints import Checkpoints
from videodpo.dpo.guards import should_abort, skip_reason
from videodpo.dpo.inputs import digest_of_inputs
from videodpo.dpo.log_checks import check_log, is_plain
from videodpo.dpo.log_rows import finite, log_row, peak_memory_mb
from videodpo.dpo.loss_scale import is_overflow, loss_scale
from videodpo.dpo.optimizers import clip_gradients, make_optimizer, set_rate, share_of_learning_rate, start_moments
from videodpo.dpo.passes import Passes
from videodpo.dpo.policy import apply_memory_options, build_policy, offloaded_activations, trainable
from videodpo.dpo.progress import describe_step, start_trackers, track
from videodpo.dpo.samples import draw_samples
from videodpo.dpo.visits import Visit
from videodpo.runtime.compat.accelerate import allow_unused_weights
from videodpo.runtime.countdown import Countdown
from videodpo.runtime.exit_codes import Interrupted
from videodpo.runtime.giving_up import GaveUp
from videodpo.runtime.settings import TrainSettings
from videodpo.runtime.signals import Interrupts
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.files import sha256_of_folder
from videodpo.storage.manifests import edited_inputs
from videodpo.storage.schemas import TRAIN_LOG
from videodpo.storage.tables import write_table

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)


class Training:
    """Policy, optimizer and log of a training. The micro-batches of a step are distributed over the ranks."""

    def __init__(
        self,
        snapshot: Snapshot[TrainSettings],
        round_folder: Path,
        previous_adapter: Path | None,
        accelerator: Accelerator,
    ) -> None:
        self.snapshot, self.round_folder, self.accelerator = snapshot, round_folder, accelerator
        self.train, self.schedule = snapshot.settings.train, snapshot.settings.schedule
        self.train_runtime = snapshot.execution.train_runtime
        self.model = build_policy(snapshot, previous_adapter, accelerator.device.type)
        # Ranks of a context-parallel group share the tokens of the same pairs.
        self.group, neighbour = divmod(accelerator.process_index, self.train_runtime.context_parallel)
        self.passes = Passes(snapshot, round_folder, self.model, neighbour)
        apply_memory_options(self.model, self.train_runtime)
        if self.train_runtime.context_parallel > 1:
            self.model.enable_context_parallel(self.train_runtime.context_parallel)
        self.num_groups = accelerator.num_processes // self.train_runtime.context_parallel
        optimizer = make_optimizer(list(trainable(self.model).values()), self.train)
        if self.model.parts_by_noise_level and self.train_runtime.strategy == "fsdp":
            raise InputError(
                "train_runtime.strategy: fsdp, but ranks that run different experts would wait for each other; use ddp"
            )
        if self.model.leaves_weights_out:
            allow_unused_weights(accelerator)
        self.model.denoiser, wrapped = accelerator.prepare(self.model.denoiser, optimizer)
        self.optimizer: torch.optim.Optimizer = wrapped.optimizer
        start_moments(self.optimizer)
        self.weights = list(trainable(self.model).values())
        self.identity = self._identity(previous_adapter)
        self.checkpoints = Checkpoints(round_folder / "state", self.identity, self.model.denoiser, self.optimizer)
        self._goes_on, self._reported = previous_adapter is not None, set[tuple[str, str]]()
        self._check_micro_batches()

    def _identity(self, previous_adapter: Path | None) -> str:
        """Return a digest of everything that determines the trained weights."""
        inputs = digest_of_inputs(self.passes.plan, self.round_folder, more=["weight"])
        before = sha256_of_folder(previous_adapter) if previous_adapter else "base"
        known = b"" if self.passes.reference is None else self.passes.reference.tobytes()
        names = [self.snapshot.digest, before, hashlib.sha256(known).hexdigest(), inputs]
        return hashlib.sha256(" ".join(names).encode()).hexdigest()

    def _check_micro_batches(self) -> None:
        count = self.schedule.global_batch_size // self.schedule.micro_batch_size
        if count % self.num_groups:
            what = "processes" if self.train_runtime.context_parallel == 1 else "groups of processes"
            raise InputError(
                f"schedule: {count} micro-batches per step cannot be divided evenly among {self.num_groups} {what}; "
                "change global_batch_size, micro_batch_size or train_runtime.processes"
            )

    def run(self, countdown: Countdown) -> list[dict[str, Any]]:
        """Train from the last checkpoint to the end.

        Args:
            countdown: progress display that counts steps.

        Returns:
            Rows of the log.

        Raises:
            Interrupted: a signal requested a stop; the state is saved.
            GaveUp: too many skipped steps in a row; the message names step, pairs and timesteps.
        """
        rows: list[dict[str, Any]]
        done, rows = self.checkpoints.load()
        log.info("training from step %d of %d, beta %g", done, self.schedule.num_steps, self.passes.beta)
        settings = self.snapshot.settings.model_dump() | {"beta": self.passes.beta}
        start_trackers(self.accelerator, self.snapshot.run, self.identity, settings, self.round_folder / "tracking")
        saved, num_steps = time.monotonic(), self.schedule.num_steps
        countdown.resume(done)
        with Interrupts() as interrupts:
            for step in range(done, num_steps):
                rows.append(self._step(step, rows))
                last = step + 1 == num_steps
                self._look(rows, last)
                track(self.accelerator, rows[-1])
                countdown.add(note=describe_step(rows[-1]))
                due = time.monotonic() - saved > 60 * self.train_runtime.checkpoint_minutes
                stop, due = self._agree(interrupts.asked is not None, due)
                steps = self.train_runtime.checkpoint_steps
                if stop or due or last or (steps and (step + 1) % steps == 0):
                    self._save(step + 1, rows)
                    saved = time.monotonic()
                if stop and not last:
                    signal = interrupts.asked or "a signal"
                    raise Interrupted(f"{signal} after step {step + 1}: the state is saved; start again to resume")
        return rows

    def _save(self, step: int, rows: list[dict[str, Any]]) -> None:
        self.checkpoints.save(step, rows)
        if self.accelerator.is_main_process:
            self.write_log(self.round_folder / "state" / "train_log.parquet", rows)
            self._watch(rows, last=step == self.schedule.num_steps)

    def _watch(self, rows: Sequence[dict[str, Any]], *, last: bool) -> None:
        """Warn about what the doctor finds in the log so far, once per finding."""
        starts = is_plain(self.train.objective) and not self._goes_on
        found = check_log(pd.DataFrame(rows), starts_at_ln_2=starts, max_grad_norm=self.train.max_grad_norm)
        for finding in found:
            is_early = finding.check == "learned" and not last
            if finding.status != "fine" and (finding.check, finding.status) not in self._reported and not is_early:
                self._reported.add((finding.check, finding.status))
                log.warning("step %d: %s", len(rows) - 1, finding.line)

    def write_log(self, path: Path, rows: Sequence[dict[str, Any]]) -> None:
        """Write the log so far."""
        extra = {"beta": repr(self.passes.beta), **edited_inputs(self.round_folder / "pairs.parquet")}
        write_table(path, rows, TRAIN_LOG, **self.snapshot.provenance, extra=extra)

    def _agree(self, *flags: bool) -> list[bool]:
        """Logical OR of each flag over all ranks."""
        asked = torch.tensor([float(flag) for flag in flags], device=self.accelerator.device)
        return [bool(count) for count in self.accelerator.reduce(asked, "sum").tolist()]

    def _step(self, step: int, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        start = time.monotonic()
        rate = self.train.learning_rate * share_of_learning_rate(self.train, step, self.schedule.num_steps)
        set_rate(self.optimizer, rate)
        scale = loss_scale(rows, self.snapshot.settings.model.dtype)
        pairs, world = self.schedule.global_batch_size, self.accelerator.num_processes
        groups, neighbours = self.num_groups, self.train_runtime.context_parallel
        count = pairs // self.schedule.micro_batch_size
        runs = self.passes.plan.micro_batches[step * count : (step + 1) * count]
        mine = runs[self.group :: groups]
        statistics = []
        for run in mine:
            with self._synchronised(run is mine[-1]), offloaded_activations(self.model, self.train_runtime):
                result, columns = self.passes.learn(run)
                # The loss of a step is the mean over all its pairs. Data parallelism averages gradients over ranks, so
                # multiply by `world`, their number. Ranks of a context-parallel group each hold a part of one gradient.
                self.accelerator.backward(result.per_pair.sum() * world / pairs * (scale or 1.0))
            statistics.append(columns)
        norm = clip_gradients(self.weights, self.train.max_grad_norm, scale or 1.0)
        gathered = self.accelerator.gather(torch.cat(statistics)).cpu().double().numpy()
        # One row per pair: ranks of a context-parallel group have seen the same pairs.
        table = gathered.reshape(groups, neighbours, pairs // groups, -1)[:, 0].reshape(pairs, -1)
        indices = [index for group in range(groups) for run in runs[group::groups] for index in run]
        reason = skip_reason(norm, table[:, 0], rows, self.train)
        if reason is None:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        seconds = time.monotonic() - start
        row = log_row(table, [self.passes.plan.training[index] for index in indices])
        row |= {"step": step, "epoch": (step + 1) * pairs / self.passes.plan.num_pairs, "lr": rate}
        row |= {"grad_norm": finite(norm), "loss_scale": scale, "skipped": reason is not None, "seconds": seconds}
        row |= {"samples_per_second": 2 * pairs / seconds, "max_memory_mb": peak_memory_mb()}
        if reason is not None:
            self._skip(step, reason, table, indices, [*rows, row])
        return row | {"validation_loss": None, "validation_accuracy": None}

    def _synchronised(self, last: bool) -> AbstractContextManager[Any]:
        """Reduce gradients once per step. FSDP reduces them after each micro-batch, which keeps them sharded."""
        if last or self.train_runtime.strategy == "fsdp":
            return nullcontext()
        waiting: AbstractContextManager[Any] = self.accelerator.no_sync(self.model.denoiser)
        return waiting

    def _skip(
        self, step: int, reason: str, table: np.ndarray, indices: list[int], rows: Sequence[dict[str, Any]]
    ) -> None:
        bad = ~np.isfinite(table[:, 0])
        visits = [self.passes.plan.training[index] for index, is_bad in zip(indices, bad, strict=True) if is_bad]
        visits = visits or [self.passes.plan.training[index] for index in indices]
        named = self._named(visits)
        if is_overflow(rows[-1]):
            reason += f" at a loss scale of {rows[-1]['loss_scale']:g}, which is halved"
        if should_abort(rows, self.train):
            count = self.train.max_skipped_steps
            if self.accelerator.is_main_process:
                self.write_log(self.round_folder / "state" / "train_log.parquet", rows)
            raise GaveUp(f"step {step}: {reason}, after {count} skipped steps in a row; {named}")
        if self.accelerator.is_main_process:
            log.warning("step %d is skipped: %s; %s", step, reason, named)

    def _look(self, rows: list[dict[str, Any]], last: bool) -> None:
        """Run validation and sampling if they are due."""
        step = len(rows)
        if self.passes.plan.validation and (last or step % self.train_runtime.validation_steps == 0):
            rows[-1] |= self._validation(step)
        wanted = self.train_runtime.samples
        if wanted.num_prompts and (last or step % wanted.steps == 0):
            draw_samples(self.model, self.snapshot, self.round_folder, self.accelerator, step, wanted.num_prompts)

    def _validation(self, step: int) -> dict[str, float | None]:
        """Return means for the log over the visits with finite results. A warning names the other visits."""
        measured = self._validate()
        good = np.isfinite(measured).all(axis=1)
        if not good.all() and self.accelerator.is_main_process:
            visits = [
                self.passes.plan.visits[index] for run in self.passes.plan.validation_micro_batches for index in run
            ]
            named = self._named([visit for visit, is_good in zip(visits, good, strict=True) if not is_good])
            log.warning("step %d: validation errors that are not finite are left out: %s", step - 1, named)
        if not good.any():
            return {"validation_loss": None, "validation_accuracy": None}
        margin, loss = measured[good].T
        return {"validation_loss": float(loss.mean()), "validation_accuracy": float((margin > 0).mean())}

    def _named(self, visits: Sequence[Visit]) -> str:
        return ", ".join(f"pair {visit.pair_id} at timestep {visit.timestep:g}" for visit in visits)

    def _validate(self) -> np.ndarray:
        """Return margin and loss of every validation visit, [visits, 2], the same on every rank."""
        runs = self.passes.plan.validation_micro_batches
        # Sharded weights are gathered in every pass, so every rank must run the same number of passes.
        padding = -len(runs) % self.num_groups
        mine = [*runs, *runs[:1] * padding][self.group :: self.num_groups]
        found = gather_object([(run.start, self.passes.measure(run).numpy()) for run in mine])
        measured = dict(found)
        return np.concatenate([measured[run.start] for run in runs])
