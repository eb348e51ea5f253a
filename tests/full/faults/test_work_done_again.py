"""A SIGKILL during a stage costs only the batch in progress, and the stage ends with the same bytes.

Counts the finished pieces of work that are repeated; the piece in progress comes in addition.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.support.every_stage import comparable, config
from videodpo.cli import main

PLUGIN = ROOT / "tests" / "slow_plugin"
SECONDS = 0.25  # duration of a piece of work: a batch of clips, a scored clip, a forward pass
STAGES = {
    "generate": ["generate", "--config", "generate"],
    "score": ["score", "--config", "score/slow"],
    "reference": ["reference", "--config", "reference"],
    "train": ["train", "--config", "train"],
}
CHANGES: dict[str, Any] = {
    "prompts": {"num_train": 6},
    "model": {"family": "slow_wan"},
    "generate": {"videos_per_prompt": 4},
    "dimensions": {
        "temporal_flickering": None,
        "imaging_quality_sharpness": None,
        "slow": {"pillar": "quality", "min": 0.0, "max": 1.0},
    },
    "schedule": {"num_steps": 8},
    "train_runtime": {"checkpoint_steps": 1},
}
PRODUCTS = {
    "generate": ["videos"],
    "score": ["scores"],
    "reference": ["reference"],
    "train": ["adapter", ".adapter.sha256", "state", "train_log.parquet"],
}
# Pieces that are saved together. Sampling decodes and writes one batch while it denoises the next.
BATCH = {"generate": 2, "score": 8, "reference": 1, "train": 2}
PIECES = {"generate": 6, "score": 24, "reference": 16, "train": 16}


@pytest.fixture(scope="module")
def slow_plugin() -> Iterator[None]:
    sys.path.insert(0, str(PLUGIN))
    yield
    sys.path.remove(str(PLUGIN))


@pytest.fixture(scope="module")
def undisturbed(slow_plugin: None, random_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of an undisturbed run: 24 clips in 6 batches, scored in 3 blocks, 8 steps of 2 passes."""
    results = tmp_path_factory.mktemp("whole") / "results"
    run = config(random_model, results, **CHANGES)
    for words in (["prompts", "--config", "prompts"], STAGES["generate"], STAGES["score"]):
        assert main(command(words, results)) == 0
    assert main(["collect-scores", *command(STAGES["score"], results)[1:]]) == 0
    run.pairs()
    run.visits()
    for stage in ("reference", "train"):
        assert main(command(STAGES[stage], results)) == 0
    return results


@pytest.mark.parametrize("stage", STAGES)
def test_a_sigkill_costs_a_stage_only_the_batch_in_progress(
    stage, undisturbed, random_model, tmp_path, fault_tries, figures
):
    rng, again, kills = random.Random(5), [], 0
    while kills < fault_tries:
        results = tmp_path / f"results-{kills}"
        config(random_model, results, **CHANGES)
        left_out = shutil.ignore_patterns("config", "locks", *PRODUCTS[stage])
        shutil.copytree(undisturbed, results, ignore=left_out, dirs_exist_ok=True)
        done, ended = set[str](), False
        while not ended:
            moment = rng.uniform(0.0, (2 * BATCH[stage] + 2) * SECONDS) if kills < fault_tries else None
            pieces, ended = until_killed(STAGES[stage], results, moment)
            kills += not ended
            again.append(len(done & set(pieces)))
            done |= set(pieces)
        assert len(done) == PIECES[stage]
        expected, found = comparable(undisturbed / "small"), comparable(results / "small")
        if stage == "score":  # another command collects the scores by dimension
            expected = {name: digest for name, digest in expected.items() if name in found or "/slow/" not in name}
        assert found == expected
    figures(
        f"SIGKILL in the middle of {stage}",
        {"tries": kills, "pieces of a run": PIECES[stage], "done again": sum(again), "most after one": max(again)},
    )
    assert max(again) <= BATCH[stage]


def until_killed(words: list[str], results: Path, moment: float | None) -> tuple[list[str], bool]:
    """Return the pieces of work done (the last one may be lost), and whether the stage ended by itself.

    Args:
        moment: time of the SIGKILL in seconds after the first piece; None for no SIGKILL.
    """
    record = results / "record.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "videodpo", *command(words, results)],
        cwd=ROOT,
        env=os.environ | {"SLOW_RECORD": str(record), "SLOW_SECONDS": str(SECONDS), "PYTHONPATH": python_path()},
        stderr=subprocess.PIPE,
        text=True,
    )
    if moment is not None and not ended_before(process, record, moment):
        process.kill()
    _, errors = process.communicate()
    assert process.returncode in (0, -signal.SIGKILL), errors
    pieces = taken(record)
    record.unlink(missing_ok=True)
    return pieces, process.returncode == 0


def command(words: list[str], results: Path) -> list[str]:
    stage, option, name = words
    return [stage, option, str(results / "small" / "config" / f"{name}.json")]


def python_path() -> str:
    return os.pathsep.join(filter(None, [str(PLUGIN), os.environ.get("PYTHONPATH")]))


def ended_before(process: subprocess.Popen[str], record: Path, seconds: float) -> bool:
    """True if the process ended by itself within so many seconds after its first piece of work."""
    while process.poll() is None and not record.exists():
        time.sleep(0.02)
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    return process.poll() is not None


def taken(record: Path) -> list[str]:
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    return [json.loads(line)["piece"] for line in lines]
