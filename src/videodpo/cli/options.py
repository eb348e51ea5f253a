"""Options that several subcommands share, and the settings that they name."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from videodpo.config import InputError
from videodpo.config.loading import read_config
from videodpo.runtime.benchmark_settings import BENCHMARK_KINDS
from videodpo.runtime.gpus import reserve_gpus
from videodpo.runtime.rounds import round_folder
from videodpo.runtime.snapshot import load_snapshot, snapshot_text, write_snapshot
from videodpo.workflow.run import Workflow

Command: TypeAlias = Callable[[argparse.Namespace], int | None]
Add: TypeAlias = Callable[[str, Command, str], argparse.ArgumentParser]  # name, command and help of a subcommand


def load(arguments: argparse.Namespace, stage: str, group: str | None = None) -> tuple[Any, Path]:
    """Load the settings snapshot of a stage, and return it with the folder of its round.

    If --config is a config.yaml and not a snapshot, write the snapshot first.

    Args:
        group: group of a benchmark, for a stage that has settings for each of them.
    """
    path: Path = arguments.config
    if path.suffix != ".json":
        run = read_workflow(arguments)
        if stage in BENCHMARK_KINDS:
            require_benchmark(run, group)
        path = write_settings(run, f"{stage}/{group}" if group else stage)
    snapshot = load_snapshot(path, stage)
    return snapshot, round_folder(snapshot.folder, arguments.round)


def require_benchmark(run: Workflow, group: str | None = None) -> None:
    """Raise InputError if a run has no benchmark, or no such group in it."""
    if (suite := run.benchmark.suite) is None:
        raise InputError("evaluate.benchmark: null, and this command needs a benchmark; did you forget a preset?")
    if group and group not in suite.groups:
        raise InputError(f"--group: {group!r} is not a group of the benchmark (known: {', '.join(suite.groups)})")


def write_settings(run: Workflow, name: str) -> Path:
    """Write a settings snapshot of a run and its execution.json; return the path of the snapshot."""
    folder = Path(run.folder) / "config"
    for part in (name, "execution"):
        write_snapshot(snapshot_text(run.config, part), folder / f"{part}.json")
    return folder / f"{name}.json"


def read_workflow(arguments: argparse.Namespace) -> Workflow:
    return Workflow(read_config(arguments.config, arguments.preset, arguments.set))


def reserve(snapshot: Any, num_gpus: int = 1) -> None:
    """Reserve GPUs. Call this before torch is imported, because torch reads only once which GPUs it may use."""
    reserve_gpus(snapshot.execution.device, num_gpus)


def round_number(text: str) -> int:
    """Parse the value of --round, or another number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def add_round(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--round", type=round_number, default=1, help="round of sampling and alignment, from 1")


def add_config(sub: argparse.ArgumentParser, *, several: bool = False) -> None:
    if several:
        text = "config.yaml, or snapshot files, one per dimension"
        sub.add_argument("--config", type=Path, nargs="+", default=[Path("config.yaml")], help=text)
    else:
        sub.add_argument("--config", type=Path, default=Path("config.yaml"), help="config.yaml, or a snapshot file")
    sub.add_argument(
        "--preset",
        type=Path,
        action="append",
        default=[],
        help="YAML file that overrides keys of --config (repeatable)",
    )
    sub.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one key that overrides all files (repeatable)"
    )
