"""Full training states on disk: trainable weights, optimiser, log; whole or absent."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from videodpo.files import sync_folder

KEEP = 2


def save_checkpoint(
    state: Path,
    step: int,
    trained_on: str,
    weights: dict[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    rows: list[dict[str, Any]],
) -> None:
    """Write a state under a temporary name, sync, rename; drop all but the newest two, and those of other settings.

    Args:
        state: the round's state folder. step: optimiser steps done. trained_on: digest of settings and data.
        weights: the trainable parameters by name. rows: the training log up to here.
    """
    mine = _folder(state, trained_on)
    final = mine / f"step-{step:08d}"
    partial = mine / f".{final.name}.partial"
    if partial.exists():
        shutil.rmtree(partial)
    partial.mkdir(parents=True)
    save_file(
        {name: value.detach().cpu().contiguous() for name, value in weights.items()}, partial / "weights.safetensors"
    )
    torch.save(optimizer.state_dict(), partial / "optimizer.pt")
    progress = {"step": step, "rows": rows}
    (partial / "progress.json").write_text(json.dumps(progress), encoding="utf-8")
    for file in partial.iterdir():
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
    if final.exists():
        shutil.rmtree(final)
    os.replace(partial, final)
    sync_folder(mine)
    others = [folder for folder in state.iterdir() if folder.is_dir() and folder != mine]
    for old in [*sorted(mine.glob("step-*"))[:-KEEP], *others]:
        shutil.rmtree(old)


def load_checkpoint(
    state: Path, trained_on: str, weights: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, list[dict[str, Any]]]:
    """Put the newest state that fits into weights and optimiser.

    Returns:
        Steps done and the log's rows; (0, []) where there is no state of these settings and data.
    """
    folders = sorted(_folder(state, trained_on).glob("step-*"))
    if not folders:
        return 0, []
    progress = json.loads((folders[-1] / "progress.json").read_text(encoding="utf-8"))
    saved = load_file(folders[-1] / "weights.safetensors")
    with torch.no_grad():
        for name, value in weights.items():
            value.copy_(saved[name])
    optimizer.load_state_dict(torch.load(folders[-1] / "optimizer.pt", map_location="cpu", weights_only=True))
    return int(progress["step"]), list(progress["rows"])


def _folder(state: Path, trained_on: str) -> Path:
    return state / trained_on[:16]
