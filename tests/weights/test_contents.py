"""Files and folders that are not usable weights are named before a job starts."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from videodpo.cli import main
from videodpo.config import ConfigError
from videodpo.workflow.run import Workflow

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 343242485\n"
PAGE = b"\xef\xbb\xbf\n<!DOCTYPE html>\n<html><title>Sign in</title></html>"


def saved(**tensors: torch.Tensor) -> bytes:
    box = io.BytesIO()
    torch.save(tensors, box)
    return box.getvalue()


def in_zip(name: str, content: bytes) -> bytes:
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w") as archive:
        archive.writestr(name, content)
    return box.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (POINTER, "is a Git LFS pointer, not the file itself; run `git lfs pull`"),
        (b"/annex/objects/SHA256E-s3--0.pth\n", "is a git-annex pointer"),
        (PAGE, "is a web page, not the file itself"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
        (b"", "is empty; download it again"),
        (gzip.compress(saved(a=torch.zeros(9))), "is compressed by gzip; unpack it"),
        (b"\xfd7zXZ\0\0", "is compressed by xz"),
        (b"(\xb5/\xfd\0\0", "is compressed by zstd"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (in_zip("weights.pth", saved(a=torch.zeros(9))), "is a zip archive of weights.pth; unpack it"),
        (saved(a=torch.zeros(999))[:-500], "is incomplete (its end is missing)"),
        (b"Entry not found", "is neither safetensors nor a file of torch.save (it begins with 'Entry not found')"),
        (b'{"error": "Repository not found"}', "is neither safetensors nor a file of torch.save"),
    ],
)
def test_a_scorers_file_that_is_not_a_checkpoint_is_named_by_check(small_config, tmp_path, content, message):
    path = tmp_path / "dino.pth"
    path.write_bytes(content)
    dimension = {"options": {"weights": str(path)}, "pillar": "quality", "min": 0.1, "max": 1.0}
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        Workflow(small_config(dimensions={"subject_consistency": dimension}))
    assert str(path) in str(raised.value)
    assert "dimensions.subject_consistency.options.weights" in str(raised.value)


@pytest.fixture
def model(random_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(random_model, tmp_path / "model"))


def rename(folder: Path, old: str, new: str) -> None:
    (folder / old).rename(folder / new)


WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"


def cut(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-1])


def shard(folder: Path, *, missing: bool) -> None:
    """Split the denoiser into two shards with an index, as diffusers does."""
    from safetensors.torch import load_file

    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    shards = {"diffusion_pytorch_model-00001-of-00002.safetensors": names[::2]}
    shards["diffusion_pytorch_model-00002-of-00002.safetensors"] = names[1::2]
    for file, own in shards.items():
        save_file({name: tensors[name] for name in own}, folder / "transformer" / file)
    index = {"metadata": {}, "weight_map": {name: file for file, own in shards.items() for name in own}}
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    if missing:
        (folder / "transformer" / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: rename(m, WEIGHTS, "transformer/diffusion_pytorch_model.fp16.safetensors"), "only the variant"),
        (
            lambda m: rename(m, WEIGHTS, "transformer/diffusion_pytorch_model.bin"),
            "which is not read; download the saf",
        ),
        (lambda m: rename(m, WEIGHTS, "transformer/wan.safetensors"), "but wan.safetensors; give the file the name"),
        (lambda m: (m / WEIGHTS).write_bytes(POINTER), "is a Git LFS pointer"),
        (lambda m: (m / WEIGHTS).write_bytes(PAGE), "is a web page"),
        (lambda m: (m / WEIGHTS).write_bytes(saved(a=torch.zeros(9))), "is not safetensors, despite its name"),
        (cut, "by its header"),
        (lambda m: shard(m, missing=True), "lacks diffusion_pytorch_model-00002-of-00002.safetensors, which"),
        (lambda m: (m / "text_encoder" / "model.safetensors").unlink(), "text_encoder has no model.safetensors"),
        (lambda m: shutil.rmtree(m / "text_encoder"), "the folder is missing or empty"),
        (lambda m: (m / "tokenizer" / "tokenizer.json").write_bytes(POINTER), "tokenizer.json is a Git LFS pointer"),
        (lambda m: (m / "vae" / "config.json").write_bytes(POINTER), "config.json"),
    ],
)
def test_a_model_folder_that_cannot_load_is_named_by_check(small_config, model, change, message):
    change(model)
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        Workflow(small_config(model={"weights": str(model)}))
    assert "model.weights" in str(raised.value)


def test_a_model_folder_in_shards_is_accepted(small_config, model):
    shard(model, missing=False)
    Workflow(small_config(model={"weights": str(model)}))


def test_a_variant_next_to_complete_weights_is_not_checked(small_config, model):
    (model / "transformer" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(POINTER)
    (model / "transformer" / "diffusion_pytorch_model.bin").write_bytes(POINTER)
    Workflow(small_config(model={"weights": str(model)}))


@pytest.mark.parametrize(("name", "content"), [("open_clip_model.safetensors", POINTER), ("vocab.json", PAGE)])
def test_an_open_clip_folder_is_checked(small_config, clip_folder, tmp_path, name, content):
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    (folder / name).write_bytes(content)
    dimension = {"options": {"weights": str(folder)}, "pillar": "quality", "min": 0.1, "max": 1.0}
    with pytest.raises(ConfigError, match=f"{name} is|{name}: not readable"):
        Workflow(small_config(dimensions={"subject_consistency_clip": dimension}))


def test_check_ends_with_one_line_that_names_the_file(
    small_config: Callable[..., dict], config_file: Callable[[dict], Path], model: Path, capsys
) -> None:
    (model / WEIGHTS).write_bytes(POINTER)
    assert main(["check", "--config", str(config_file(small_config(model={"weights": str(model)})))]) == 1
    assert f"model.weights: {model / WEIGHTS} is a Git LFS pointer" in capsys.readouterr().err
