"""Pairs and reference errors to an aligned adapter: the DPO fine-tune, resumable from its full checkpoints."""

from __future__ import annotations

import logging
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from videodpo.config import TrainRuntime
from videodpo.runtime.device import choose_device
from videodpo.runtime.giving_up import GaveUp, mark
from videodpo.runtime.locks import exclusive
from videodpo.runtime.snapshot import Snapshot, TrainSettings
from videodpo.storage.files import refuse_full_disk, remove_leftover_folders
from videodpo.storage.manifests import replace_folder
from videodpo.storage.tensors import sort_metadata

if TYPE_CHECKING:
    from accelerate import Accelerator

    from videodpo.dpo.trainer import Training


def train(snapshot: Snapshot[TrainSettings], round_folder: Path, previous_adapter: Path | None) -> None:
    """Fine-tune and write `round<r>/adapter` and `train_log.parquet`; one call in each process.

    Args:
        snapshot: the stage's settings.
        round_folder: has pairs, visits, videos and, for `reference: precomputed`, the errors.
        previous_adapter: the adapter of the round before, to go on from; the reference stays the base model.

    Raises:
        Interrupted: a signal asked to stop; the state is saved.
        GaveUp: too many bad steps in a row; the message names step, pairs and timesteps.
    """
    accelerator = _accelerator(snapshot.execution.train_runtime, choose_device(snapshot.execution.device), round_folder)
    if not accelerator.is_main_process:
        logging.getLogger("videodpo").setLevel(logging.WARNING)  # every process does the same
    from videodpo.dpo.trainer import Training

    adapter = round_folder / "adapter"
    with exclusive(snapshot.folder, adapter) if accelerator.is_main_process else nullcontext():
        training = Training(snapshot, round_folder, previous_adapter, accelerator)
        try:
            rows = training.run()
        except GaveUp:
            if accelerator.is_main_process:
                mark(round_folder, "train")
            raise
        finally:
            for tracker in accelerator.trackers:
                tracker.finish()
        _save_adapter(training)
        if accelerator.is_main_process:
            training.write_log(round_folder / "train_log.parquet", rows)
        accelerator.wait_for_everyone()
        accelerator.end_training()


def _accelerator(runtime: TrainRuntime, device: str, round_folder: Path) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.utils import FullyShardedDataParallelPlugin

    plugin = None
    if runtime.strategy == "fsdp":
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_offload=runtime.offload_optimizer
        )
    return Accelerator(
        cpu=device == "cpu",
        fsdp_plugin=plugin,
        log_with=list(runtime.trackers) or None,
        project_dir=round_folder / "tracking",
    )


def _save_adapter(training: Training) -> None:
    """Write the adapter under a temporary name and rename it; every process calls this."""
    from videodpo.dpo.policy import gather_policy

    model = gather_policy(training.model, training.snapshot, training.accelerator)
    if training.accelerator.is_main_process:
        adapter = training.round_folder / "adapter"
        partial = adapter.with_name(".adapter.partial")
        remove_leftover_folders(adapter.parent)
        try:
            with refuse_full_disk(adapter):
                model.save_adapter(partial)
                for file in partial.rglob("*.safetensors"):
                    sort_metadata(file)
                replace_folder(partial, adapter)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
