"""The pipeline's six kinds of writers, each with two versions of one file and a function that reads it back."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch._dynamo  # an optimizer imports it at its first step

from videodpo.dpo.checkpoints import Checkpoints
from videodpo.storage.clips import write_tar
from videodpo.storage.manifests import read_json, record_json
from videodpo.storage.schemas import PROMPTS
from videodpo.storage.tables import read_table, write_table
from videodpo.storage.tensors import TensorFile, write_tensors
from videodpo.storage.video import read_mp4, write_mp4

NUM_ROWS = 50_000
NUM_LETTERS = 300_000


class Writer(NamedTuple):
    """One kind: the final name, how version 1 or 2 is written there, and how the version is read back."""

    name: str
    write: Callable[[Path, int], None]
    read: Callable[[Path], int]


def _write_clip(path: Path, version: int) -> None:
    write_mp4(path, np.full((24, 64, 64, 3), 100 * version, np.uint8), 8.0)


def _read_clip(path: Path) -> int:
    frames, _ = read_mp4(path)
    assert frames.shape == (24, 64, 64, 3)
    return round(float(frames.mean()) / 100)


def _write_tar(path: Path, version: int) -> None:
    write_tar(path, [(f"{number}.mp4", bytes([version]) * 400_000) for number in range(8)])


def _read_tar(path: Path) -> int:
    with tarfile.open(path) as archive:
        contents = [archive.extractfile(member).read() for member in archive]
    assert {len(content) for content in contents} == {400_000}
    assert len(contents) == 8
    (version,) = set(b"".join(contents))
    return version


def _write_latents(path: Path, version: int) -> None:
    write_tensors(path, {str(row): torch.full((200_000,), float(version)) for row in range(8)})


def _read_latents(path: Path) -> int:
    file = TensorFile(path)
    (version,) = {float(value) for name in file.names for value in file.get(name).unique()}
    return int(version)


@cache
def _rows(version: int) -> pd.DataFrame:
    words = np.random.default_rng(version).integers(0, 2**60, NUM_ROWS).astype(str)
    return pd.DataFrame({"prompt_id": words, "prompt": words, "source": "test", "split": "train", "position": version})


def _write_parquet(path: Path, version: int) -> None:
    write_table(path, _rows(version), PROMPTS, stage="prompts", digest="d", seed=0)


def _read_parquet(path: Path) -> int:
    table = read_table(path)
    assert len(table) == NUM_ROWS
    (version,) = set(table.position)
    return int(version)


def _write_json(path: Path, version: int) -> None:
    record_json(path, {"version": version, "text": str(version) * NUM_LETTERS})


def _read_json(path: Path) -> int:
    found: dict[str, Any] = read_json(path)
    assert found["text"] == str(found["version"]) * NUM_LETTERS
    return int(found["version"])


def checkpoints(state: Path) -> tuple[Checkpoints, torch.nn.Module]:
    """Checkpoints in a folder, and their network."""
    network = torch.nn.Linear(256, 256)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.0)
    network(torch.ones(1, 256)).sum().backward()
    optimizer.step()
    return Checkpoints(state, "a" * 64, network, optimizer), network


def _write_checkpoint(state: Path, version: int) -> None:
    states, network = checkpoints(state)
    with torch.no_grad():
        network.weight.fill_(float(version))
    states.save(version, [{"step": version}] * 100)


def _read_checkpoint(state: Path) -> int:
    states, network = checkpoints(state)
    step, rows = states.load()
    assert rows == [{"step": step}] * 100
    assert (network.weight == step).all()
    return step


WRITERS = {
    "clip": Writer("clip.mp4", _write_clip, _read_clip),
    "clips of a shard": Writer("shard-00000.tar", _write_tar, _read_tar),
    "latents": Writer("shard-00000.safetensors", _write_latents, _read_latents),
    "parquet": Writer("table.parquet", _write_parquet, _read_parquet),
    "json": Writer("summary.json", _write_json, _read_json),
    "checkpoint": Writer("state", _write_checkpoint, _read_checkpoint),
}


def write_for_ever(kind: str, path: Path, ready: Any) -> None:
    """Write both versions alternately until the process is killed."""
    torch.set_num_threads(1)
    for version in (1, 2):  # warm-up: the first writes are slow
        WRITERS[kind].write(path.parent.with_name("warm") / path.name, version)
    ready.set()
    while True:
        for version in (1, 2):
            WRITERS[kind].write(path, version)
