"""Commands of all stages, run in order on a small run, and the stage that each file belongs to."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Stages, small_run
from videodpo.cli import main
from videodpo.storage.files import sha256_of

EXACT = (".parquet", ".safetensors", ".mp4", ".json", ".html", ".svg", ".js", ".css", ".png", ".csv")
only_root_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a disk")


@contextmanager
def own_disk(folder: Path) -> Iterator[Path]:
    """Mount a tmpfs for faults that must not affect the real disk."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


def make_all(model: Path, results: Path) -> Path:
    """Run every stage; return `results`."""
    config(model, results)
    for stage in COMMANDS:
        assert main(command(stage, results)) == 0, stage
    return results


def config(model: Path, results: Path, /, **changes: Any) -> Stages:
    """Write the snapshots of every stage; `changes` as for `small_run`."""
    train_runtime = {"gradient_checkpointing": "off", "checkpoint_steps": 1, "trackers": ["tensorboard"]}
    run = Stages(small_run(model, results, **{"prompts": {"num_train": 3}, "train_runtime": train_runtime} | changes))
    names = [
        "prompts",
        "generate",
        "omniscore",
        "pairs",
        "visits",
        "reference",
        "train",
        "evaluate_generate",
        "appearance",
        "evaluate",
        "report",
    ]
    for name in names + [f"score/{dimension}" for dimension in run.config.dimensions]:
        run.snapshot(name)
    return run


_SCORERS = ["score/temporal_flickering", "score/imaging_quality_sharpness"]
COMMANDS = {
    "prompts": ["prompts", "--config", "prompts"],
    "generate": ["generate", "--config", "generate"],
    "score": ["score", "--config", *_SCORERS],
    "collect_scores": ["collect-scores", "--config", *_SCORERS],
    "omniscore": ["omniscore", "--config", "omniscore"],
    "pairs": ["pairs", "--config", "pairs"],
    "visits": ["visits", "--config", "visits"],
    "reference": ["reference", "--config", "reference"],
    "train": ["train", "--config", "train"],
    "sample base": ["generate", "--config", "evaluate_generate", "--arm", "base"],
    "sample aligned": ["generate", "--config", "evaluate_generate", "--arm", "aligned"],
    "score base": ["collect-scores", "--config", *_SCORERS, "--arm", "base"],
    "score aligned": ["collect-scores", "--config", *_SCORERS, "--arm", "aligned"],
    "appearance base": ["appearance", "--config", "appearance", "--arm", "base"],
    "appearance aligned": ["appearance", "--config", "appearance", "--arm", "aligned"],
    "evaluate": ["evaluate", "--config", "evaluate"],
    "report": ["report", "--config", "report"],
}


def command(stage: str, results: Path) -> list[str]:
    """Command line of a stage, with the paths of its settings snapshots."""
    folder = results / "small" / "config"
    words = COMMANDS[stage]
    last = words.index("--arm") if "--arm" in words else len(words)
    return [*words[:2], *(str(folder / f"{name}.json") for name in words[2:last]), *words[last:]]


def made_by(stage: str, source: Path, results: Path) -> None:
    """Copy the outputs of all stages before this one into a results folder."""
    stages = list(COMMANDS)
    order = {name: number for number, name in enumerate(stages)}
    for path in sorted((source / "small").rglob("*")):
        name = path.relative_to(source)
        if path.is_file() and order.get(maker(name), len(order)) < order[stage]:
            (results / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, results / name)


def maker(name: Path) -> str:
    """Name of the stage that wrote a file of the run."""
    inside = name.parts[1:]
    if inside[0].lstrip(".").startswith(("config", "weights.json")):
        return "config"
    if inside[0].lstrip(".").startswith(("prompts", "clips")):
        return "prompts"
    inside = inside[1:]
    if inside[0] == "evaluation":
        if inside[1] in ("videos", "scores"):
            return f"{'sample' if inside[1] == 'videos' else 'score'} {inside[2]}"
        if inside[1] == "appearance":
            return f"appearance {'base' if 'base' in name.name else 'aligned'}"
        return "evaluate"
    if inside[0] == "scores":
        return "score" if inside[1] == "by-clip" or ".json" in inside[1] else "collect_scores"
    first = inside[0].strip(".").partition(".")[0]
    places = {"videos": "generate", "adapter": "train", "state": "train", "tracking": "train", "train_log": "train"}
    places |= {"pairs_rejected": "pairs"}
    return places.get(first, first)


def comparable(run: Path) -> dict[str, str]:
    """Digest of every file whose bytes are reproducible: all without times or memory use of the training."""
    files = [path for path in run.rglob("*") if path.is_file() and path.suffix in EXACT]
    skipped = ("config", "state", "tracking")
    return {
        path.relative_to(run).as_posix(): sha256_of(path)
        for path in files
        if not any(part in skipped for part in path.relative_to(run).parts) and path.name != "train_log.parquet"
    }


def run_stages(*arguments: str) -> None:
    """Run every stage of a configuration with one shard in this process, in the working directory.

    Args:
        arguments: `--config` and `--preset`, for all commands.
    """
    for stage, words in COMMANDS.items():
        arm = words[words.index("--arm") :] if "--arm" in words else []
        assert main([words[0], *arguments, *arm]) == 0, stage
