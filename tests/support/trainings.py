"""A round with pairs and reference errors, and trainings on it: in this process, or by the command line."""

from __future__ import annotations

import json
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.conftest import Stages, small_run
from tests.support.families import FAMILIES, write
from videodpo.storage.tables import read_table

NUM_STEPS = 50


class Trainings:
    """Variants of one training; all share prompts, clips, pairs and the table of reference errors.

    A test that changes one of those tables works on `copy`.
    """

    def __init__(self, model: Path, results: Path) -> None:
        self._model, self._results = model, results
        self._trained: dict[str, Any] = {}

    def variant(
        self, *, train_runtime: dict[str, Any] | None = None, schedule: dict[str, Any] | None = None, **train: Any
    ):
        base = small_run(self._model, self._results)
        plan = {"num_steps": NUM_STEPS, "global_batch_size": 4, "micro_batch_size": 2} | (schedule or {})
        merged = {"train": base["train"] | train, "train_runtime": base["train_runtime"] | (train_runtime or {})}
        return Stages(small_run(self._model, self._results, schedule=plan, **merged))

    def copy(self, results: Path) -> Trainings:
        """Copy the round into another results folder."""
        self.variant().copy(results)
        return Trainings(self._model, results)

    def fresh(self, **changes: Any):
        """A variant with its own visits and without any state of an earlier training."""
        run = self.variant(**changes)
        for name in ("state", "adapter", "tracking", "samples"):
            shutil.rmtree(run.round_folder / name, ignore_errors=True)
        (run.round_folder / "train_log.parquet").unlink(missing_ok=True)
        run.visits()
        return run

    def trained(self, **changes: Any):
        """Train in this process, once per set of changes; return the log and the adapter's tensors."""
        key = json.dumps(changes, sort_keys=True)
        if key not in self._trained:
            run = self.fresh(**changes)
            run.train()
            self._trained[key] = log_of(run), adapter_of(run)
        return self._trained[key]


def log_of(run):
    return read_table(run.round_folder / "train_log.parquet")


def adapter_of(run) -> dict[str, torch.Tensor]:
    """Tensors by file and name: two experts have two files, and full fine-tuning has others."""
    files = sorted((run.round_folder / "adapter").rglob("*.safetensors"))
    return {f"{file.name}/{name}": value for file in files for name, value in load_file(file).items()}


def command(run) -> list[str]:
    """Command line of the training, as in the workflow."""
    run.snapshot("train")
    return [sys.executable, "-m", "videodpo", "train", "--config", str(run.folder / "config" / "train.json")]


def last_step(run) -> int:
    """Number of steps in the newest state; -1 if there is none."""
    steps = [-1]
    for path in run.round_folder.glob("state/*/step-*/progress.json"):
        with suppress(FileNotFoundError):  # a running training removes older states
            steps.append(json.loads(path.read_text())["step"])
    return max(steps)


class OfFamily(Trainings):
    """Trainings of a family other than the small run's."""

    def __init__(self, name, folder):
        super().__init__(write(FAMILIES[name], folder / "model"), folder / "results")
        self._family = FAMILIES[name]

    def variant(self, *, schedule=None, **changes):
        run = super().variant(schedule={"num_steps": 4, "micro_batch_size": 1} | (schedule or {}), **changes)
        family, config = self._family, run.config
        model = config.model.model_copy(update={"family": family.family, "max_sequence_length": family.text_tokens})
        generate = config.generate.model_copy(update={"sampling": family.sampling})
        run.config = config.model_copy(update={"model": model, "generate": generate})
        return run
