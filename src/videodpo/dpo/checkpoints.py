"""Full training states on disk: trainable weights, optimiser, log; whole or absent."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from videodpo.files import sync_folder

log = logging.getLogger(__name__)
KEEP = 2


def save_checkpoint(
    state: Path,
    step: int,
    trained_on: str,
    weights: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    rows: list[dict[str, Any]],
) -> None:
    """Write `state/step-<step>` under a temporary name, sync, rename, and drop all but the newest two.

    Args:
        state: the round's state folder. step: optimiser steps done. trained_on: digest of settings and data.
        weights: the trainable parameters by name. rows: the training log up to here.
    """
    final = state / f"step-{step:08d}"
    partial = state / f".{final.name}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in weights.items()}, partial / "weights.safetensors"
    )
    torch.save(optimizer.state_dict(), partial / "optimizer.pt")
    progress = {"step": step, "trained_on": trained_on, "rows": rows}
    (partial / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
    for file in partial.iterdir():
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
    if final.exists():
        shutil.rmtree(final)
    os.replace(partial, final)
    sync_folder(state)
    for old in sorted(state.glob("step-*"))[:-KEEP]:
        shutil.rmtree(old)


def load_checkpoint(
    state: Path, trained_on: str, weights: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, list[dict[str, Any]]]:
    """Put the newest state that fits into weights and optimiser.

    Returns:
        Steps done and the log's rows; (0, []) where there is no state of these settings and data.
    """
    for folder in sorted(state.glob("step-*"), reverse=True):
        progress = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        if progress["trained_on"] != trained_on:
            log.warning("%s belongs to other settings or pairs; it is left alone", folder)
            continue
        saved = load_file(folder / "weights.safetensors")
        if saved.keys() != weights.keys():
            raise ValueError(f"{folder}: weights of other layers; remove the state folder to start afresh")
        with torch.no_grad():
            for name, value in weights.items():
                value.copy_(saved[name])
        optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
        return int(progress["step"]), list(progress["rows"])
    return 0, []
