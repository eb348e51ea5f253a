"""Training checkpoints: trainable weights, optimizer state and log, written atomically.

The format is torch's distributed checkpoint: every rank writes its shard, and any number of ranks can read them. The
index is a pickle. A checkpoint is therefore only read from the run's own folder, where the training itself wrote it.
"""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from videodpo.config.errors import InputError, RunError
from videodpo.storage.files import (
    first_line,
    read_json,
    refuse_full_disk,
    remove_folder,
    remove_leftover_folders,
    rename_folder,
)

KEEP = 2
_TRAINABLE = StateDictOptions(ignore_frozen_params=True, strict=False)


class Checkpoints:
    """Checkpoints of one training in the round's state folder."""

    def __init__(
        self, state: Path, trained_on: str, network: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        """Locate the checkpoints of these settings and data.

        Args:
            state: the round's state folder.
            trained_on: digest of settings and data.
            network, optimizer: as wrapped by data parallelism.
        """
        self._state, self._folder = state, state / trained_on[:16]
        self._network, self._optimizer = network, optimizer

    def save(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Write a checkpoint under a temporary name, sync it and rename it. Every rank must call this.

        Then remove all but the two newest checkpoints, and all checkpoints of other settings or data.

        Args:
            step: optimizer steps done.
            rows: training log up to this step.
        """
        final = self._folder / f"step-{step:08d}"
        partial = self._folder / f".{final.name}.partial"
        if _is_main():
            remove_leftover_folders(self._folder)
            with refuse_full_disk(final):
                partial.mkdir(parents=True)
        _wait()
        try:
            with refuse_full_disk(final):
                self._quietly(_write_state, partial)
                if _is_main():
                    (partial / "progress.json").write_text(json.dumps({"step": step, "rows": rows}), encoding="utf-8")
                    rename_folder(partial, final)
        finally:
            if _is_main():
                shutil.rmtree(partial, ignore_errors=True)
        if _is_main():
            others = [folder for folder in self._state.iterdir() if folder.is_dir() and folder != self._folder]
            for old in [*sorted(self._folder.glob("step-*"))[:-KEEP], *others]:
                remove_folder(old)
        _wait()

    def load(self) -> tuple[int, list[dict[str, Any]]]:
        """Load the newest checkpoint of these settings and data. Every rank must call this.

        Returns:
            Steps done and rows of the log; (0, []) if there is no such checkpoint.

        Raises:
            InputError: the newest checkpoint is damaged; the message names its folder.
        """
        folders = sorted(self._folder.glob("step-*"))
        if not folders:
            return 0, []
        progress = read_json(folders[-1] / "progress.json")
        state = self._quietly(_read_state, folders[-1])
        set_state_dict(
            self._network,
            self._optimizer,
            model_state_dict=state["weights"],
            optim_state_dict=state["optimizer"],
            options=_TRAINABLE,
        )
        return progress["step"], progress["rows"]

    def _quietly(self, action: Any, folder: Path) -> dict[str, Any]:
        weights, moments = get_state_dict(self._network, self._optimizer, options=_TRAINABLE)
        state = {"weights": weights, "optimizer": moments}
        with warnings.catch_warnings():
            # torch warns that there is only one process, and about its file names.
            warnings.filterwarnings("ignore", module="torch.distributed")
            action(state, folder, no_dist=not dist.is_initialized())
        return state


def _write_state(state: dict[str, Any], folder: Path, *, no_dist: bool) -> None:
    try:
        save(state, checkpoint_id=folder, no_dist=no_dist)
    except CheckpointException as error:  # not a subclass of Exception
        raise RunError(f"{folder}: {_cause(error)}") from error


def _read_state(state: dict[str, Any], folder: Path, *, no_dist: bool) -> None:
    """Fill the tensors and values of `state` in place. Every rank reads its shard."""
    try:
        load(state, checkpoint_id=folder, no_dist=no_dist)
    except CheckpointException as error:
        reason = first_line(_cause(error))
        raise InputError(
            f"{folder}: not a readable training state ({reason}); remove it to resume from an earlier one"
        ) from error


def _cause(error: CheckpointException) -> BaseException:
    """Return the error of the first rank that failed."""
    return next(iter(error.failures.values()))[0]


def _is_main() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()
