"""Train stage: DPO training of an adapter on pairs and reference errors; it resumes from full checkpoints."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from videodpo.config import TrainRuntime
from videodpo.runtime.countdown import Countdown
from videodpo.runtime.device import choose_device
from videodpo.runtime.giving_up import GaveUp, mark
from videodpo.runtime.locks import exclusive
from videodpo.runtime.settings import TrainSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.manifests import product_folder
from videodpo.storage.tensors import sort_metadata

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator

    from videodpo.models.base import VideoModel

# Timeout of collective calls: rank 0 may have to sync a 14B model's state to a slow disk while the others wait.
_LONGEST_WAIT = timedelta(hours=2)

log = logging.getLogger(__name__)


def train(snapshot: Snapshot[TrainSettings], round_folder: Path, previous_adapter: Path | None) -> None:
    """Train and write `round<r>/adapter` and `train_log.parquet`; call it once in each process.

    Args:
        snapshot: the stage's settings.
        round_folder: has pairs, visits, videos and, for `reference: precomputed`, the errors.
        previous_adapter: adapter of the previous round to start from; the reference stays the base model.

    Raises:
        Interrupted: a signal asked to stop; the state is saved.
        GaveUp: too many bad steps in a row; the message names step, pairs and timesteps.
    """
    is_main = os.environ.get("RANK", "0") == "0"
    if not is_main:
        logging.getLogger("videodpo").setLevel(logging.WARNING)  # otherwise each process would log the same lines
    # Take the lock before the imports below, which take seconds, so that a left-over training is reported at once.
    with exclusive(snapshot.folder, round_folder / "adapter") if is_main else nullcontext():
        from videodpo.dpo.policy import gather_policy
        from videodpo.dpo.trainer import Training

        device = choose_device(snapshot.execution.device)
        accelerator = _accelerator(snapshot.execution.train_runtime, device, round_folder)
        # The countdown includes loading, which takes minutes for a large model.
        with Countdown(log, "training", snapshot.settings.schedule.num_steps, "steps") as countdown:
            training = Training(snapshot, round_folder, previous_adapter, accelerator)
            try:
                rows = training.run(countdown)
            except GaveUp:
                if is_main:
                    mark(round_folder, "train")
                raise
            finally:
                for tracker in accelerator.trackers:
                    tracker.finish()
        model, weights = gather_policy(training.model, snapshot, accelerator)
        # The other ranks end here, so that none waits in a collective call while the adapter is written.
        accelerator.end_training()
        if is_main:
            _save_adapter(model, weights, round_folder / "adapter")
            training.write_log(round_folder / "train_log.parquet", rows)


def _accelerator(runtime: TrainRuntime, device: str, round_folder: Path) -> Accelerator:
    from accelerate import Accelerator
    from accelerate.utils import FullyShardedDataParallelPlugin, InitProcessGroupKwargs

    plugin = None
    if runtime.strategy == "fsdp":
        plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_offload=runtime.offload_optimizer
        )
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision="no",  # the model's `precision()` applies it, as configured
        dynamo_backend="no",
        fsdp_plugin=plugin,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_LONGEST_WAIT)],
        log_with=list(runtime.trackers) or None,
        project_dir=round_folder / "tracking",
    )


def _save_adapter(model: VideoModel, weights: dict[str, torch.Tensor] | None, adapter: Path) -> None:
    """Write the adapter under a temporary name and rename it; only the main process calls this."""
    with product_folder(adapter) as partial:
        model.save_adapter(partial, weights)
        for file in partial.rglob("*.safetensors"):
            sort_metadata(file)
