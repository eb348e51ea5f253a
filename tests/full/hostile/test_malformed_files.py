"""Damaged files for every reader of user files: each gives a value or one error that names the file."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import save_file

from tests.conftest import small_run
from videodpo.config import Source
from videodpo.config.errors import VideodpoError
from videodpo.config.loading import read_config
from videodpo.dpo.checkpoints import Checkpoints
from videodpo.stages.prompts.sources import read_rows
from videodpo.storage.manifests import manifest_path
from videodpo.storage.schemas import SCORES
from videodpo.storage.tables import read_table, write_table
from videodpo.storage.tensors import TensorFile
from videodpo.storage.video import read_mp4, write_mp4
from videodpo.weights.checkpoints import read_checkpoint

PROMPTS = ["a red circle moves left", 'a "quoted", comma', "ein grüner Kreis", "圆圈", "a" * 80]
TENSORS = {"0": torch.arange(24.0).reshape(2, 3, 4), "1": torch.ones(2, 3, 4)}


class Reader(NamedTuple):
    """How a valid file is written, and the call that reads it."""

    file: str
    make: Callable[[Path], object]
    read: Callable[[Path], object]
    named: str = ""
    """Name in an error, if it is not the file's."""


def read_prompts(kind: str, path: Path) -> object:
    return list(read_rows(Source(kind=kind, path=str(path)), 0))


def make_config(path: Path) -> None:
    path.write_text(yaml.safe_dump(small_run(Path("models/wan"), Path("results"))))


def make_jsonl(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in PROMPTS), encoding="utf-8")


def make_table(path: Path) -> None:
    row = {"video_id": "v", "prompt_id": "p", "dimension": "d", "value": 0.5, "status": "ok", "scorer": "s"}
    write_table(path, [row] * 20, SCORES, stage="score", digest="", seed=0)


def make_video(path: Path) -> None:
    write_mp4(path, np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3), np.uint8), 8.0, crf=40)


def state(folder: Path) -> Checkpoints:
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return Checkpoints(folder, "trained-on", network, optimizer)


def prompts(kind: str, file: str, make: Callable[[Path], object], named: str = "") -> Reader:
    return Reader(file, make, functools.partial(read_prompts, kind), named)


READERS = {
    "config": Reader("c.yaml", make_config, read_config),
    "text": prompts("text", "p.txt", lambda path: path.write_text("\n".join(PROMPTS), encoding="utf-8")),
    "jsonl": prompts("jsonl", "p.jsonl", make_jsonl),
    "csv": prompts("csv", "p.csv", lambda path: pd.DataFrame({"prompt": PROMPTS}).to_csv(path)),
    "parquet": prompts("parquet", "p.parquet", lambda path: pd.DataFrame({"prompt": PROMPTS}).to_parquet(path)),
    "data set": Reader(
        "set/train.jsonl", make_jsonl, lambda path: read_prompts("huggingface", path.parent), "prompts.source"
    ),
    "table": Reader("shard-00000.parquet", make_table, read_table),
    "video": Reader("clip.mp4", make_video, read_mp4),
    "latents": Reader("l.safetensors", lambda path: save_file(TENSORS, path), lambda path: TensorFile(path).get("0")),
    "safetensors": Reader("w.safetensors", lambda path: save_file(TENSORS, path), read_checkpoint),
    "checkpoint": Reader("w.pt", lambda path: torch.save(TENSORS, path), read_checkpoint),
    "training state": Reader(
        "trained-on/step-00000002/.metadata",
        lambda path: state(path.parents[2]).save(2, [{"step": 2}]),
        lambda path: state(path.parents[2]).load(),
        "step-00000002",
    ),
}


def damaged(valid: bytes) -> Iterator[bytes]:
    """Yield the file empty, as noise, truncated, and with bytes changed, removed, inserted or repeated."""
    rng = random.Random(0)
    yield b""
    yield rng.randbytes(500)
    for _ in range(4):
        start, end = sorted(rng.randrange(len(valid)) for _ in range(2))
        yield valid[:start]
        yield valid[:start] + valid[start + 1 :]
        yield valid[:start] + rng.randbytes(8) + valid[start + 8 :]
        yield valid[:start] + rng.randbytes(8) + valid[start:]
        yield valid[:end] + valid[start:]


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_read_or_refused_with_its_name(name, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    reader = READERS[name]
    path = tmp_path / reader.file
    reader.make(path)
    reader.read(path)
    for digest in (manifest_path(path), manifest_path(path.parent)):
        digest.unlink(missing_ok=True)  # a digest would refuse the file before it is parsed
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        try:
            reader.read(path)
        except VideodpoError as error:
            assert (reader.named or path.name) in str(error)  # noqa: PT017 (some damaged files are readable)
