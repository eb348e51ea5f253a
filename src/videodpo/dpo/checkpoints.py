"""Full training states on disk: trainable weights, optimizer, log; complete or absent.

They are torch's distributed checkpoints: every process writes its share, and any number of processes reads it. Their
index is a pickle, so a state is only read from the run's own folder, where the training itself has written it.
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
    """The states of one training in a round's state folder."""

    def __init__(
        self, state: Path, trained_on: str, network: torch.nn.Module, optimizer: torch.optim.Optimizer
    ) -> None:
        """trained_on: digest of settings and data. network, optimizer: as data parallelism has wrapped them."""
        self._state, self._folder = state, state / trained_on[:16]
        self._network, self._optimizer = network, optimizer

    def save(self, step: int, rows: list[dict[str, Any]]) -> None:
        """Write a state under a temporary name, sync, rename; drop all but the newest two, and those of other settings.

        Every process calls it.

        Args:
            step: optimiser steps done. rows: the training log up to here.
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
        """Put the newest state that fits into weights and optimiser; every process calls it.

        Returns:
            Steps done and the log's rows; (0, []) where there is no state of these settings and data.

        Raises:
            InputError: the newest state is damaged; the message names its folder.
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
            # That there is one process, and what its own files are called.
            warnings.filterwarnings("ignore", module="torch.distributed")
            action(state, folder, no_dist=not dist.is_initialized())
        return state


def _write_state(state: dict[str, Any], folder: Path, *, no_dist: bool) -> None:
    try:
        save(state, checkpoint_id=folder, no_dist=no_dist)
    except CheckpointException as error:  # not a subclass of Exception
        raise RunError(f"{folder}: {_cause(error)}") from error


def _read_state(state: dict[str, Any], folder: Path, *, no_dist: bool) -> None:
    """Fill the tensors and values of `state` in place; every process reads its share."""
    try:
        load(state, checkpoint_id=folder, no_dist=no_dist)
    except CheckpointException as error:
        reason = first_line(_cause(error))
        raise InputError(
            f"{folder}: not a readable training state ({reason}); remove it to resume from an earlier one"
        ) from error


def _cause(error: CheckpointException) -> BaseException:
    """Return what went wrong in the first process that failed."""
    return next(iter(error.failures.values()))[0]


def _is_main() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()
