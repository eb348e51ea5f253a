"""Weights of scorers in their published formats."""

from __future__ import annotations

import argparse
import fractions
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from videodpo.config.errors import InputError
from videodpo.scorers.networks.amt import AmtS
from videodpo.storage.files import sha256_of
from videodpo.weights.catalogue import PublishedFile, catalogue
from videodpo.weights.checkpoints import load_weights, read_checkpoint


class Pair(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(3, 2).half()
        self.scale = torch.nn.Parameter(torch.tensor(2.5))
        self.register_buffer("count", torch.tensor([4, 5]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * self.scale


@pytest.fixture
def pair() -> Pair:
    torch.manual_seed(0)
    return Pair()


def written(folder: Path, network: torch.nn.Module, form: str) -> Path:
    tensors = network.state_dict()
    if form == "torchscript":
        torch.jit.script(network).save(str(folder / "weights.pt"))
        return folder / "weights.pt"
    if form == "safetensors":
        save_file(tensors, folder / "weights.safetensors")
        return folder / "weights.safetensors"
    wrapped = {"plain": tensors, "state_dict": {"epoch": 3, "state_dict": tensors}, "model": {"model": tensors}}
    wrapped["module"] = {f"module.{name}": value for name, value in tensors.items()}
    torch.save(wrapped[form], folder / "weights.pth")
    return folder / "weights.pth"


@pytest.mark.parametrize("form", ["plain", "state_dict", "model", "module", "safetensors", "torchscript"])
def test_tensors_are_read_from_every_published_format(tmp_path, pair, form, monkeypatch):
    path = written(tmp_path, pair, form)
    entry = {"what": "", "url": "", "sha256": sha256_of(path), "size": path.stat().st_size, "licence": "MIT"}
    monkeypatch.setitem(catalogue().files, "own.pt", PublishedFile(**entry))
    read = read_checkpoint(path)
    assert read.keys() == pair.state_dict().keys()
    for name, value in pair.state_dict().items():
        assert torch.equal(read[name], value), name
        assert read[name].dtype == value.dtype


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: {"model_state_dict": tensors, "epoch": 3},
        lambda tensors: {"teacher": under("module.backbone.", tensors) | {"module.head.last": torch.zeros(2)}},
        lambda tensors: {"student": under("module.", tensors), "teacher": under("module.", tensors)},
        lambda tensors: {"model": under("student.backbone.", halved(tensors)) | under("teacher.backbone.", tensors)},
        lambda tensors: {"ema": {"decay": 0.99, "shadow": tensors}, "step": 3},
        lambda tensors: {"params_ema": tensors},
        lambda tensors: {"net": tensors},
        lambda tensors: {"generator": tensors, "args": argparse.Namespace(lr=1e-3)},
        lambda tensors: {"state_dict": under("_orig_mod.module.", tensors)},
        lambda tensors: under("module._orig_mod.", tensors),
        lambda tensors: {name.replace("inner.", "inner._orig_mod."): value for name, value in tensors.items()},
        lambda tensors: under("backbone.", tensors) | {"head.weight": torch.zeros(2)},
        lambda tensors: {"state_dict": under("model.net.", tensors)},
    ],
)
def test_wrappers_and_prefixes_of_trainers_are_removed(tmp_path, pair, wrap):
    path = tmp_path / "weights.pth"
    torch.save(wrap(pair.state_dict()), path)
    other = Pair()
    load_weights(other, read_checkpoint(path), path)
    for name, value in pair.state_dict().items():
        assert torch.equal(other.state_dict()[name], value.float()), name


def under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": value for name, value in tensors.items()}


def halved(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value / 2 for name, value in tensors.items()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 3, "nets": {"a": {}, "b": {}}}, "has no named tensors; it has epoch, nets"),
        ([torch.zeros(2)], "has no named tensors; it is a list"),
        ({"state_dict": {"first.weight": torch.zeros(2)}}, "the file has first.weight"),
        (
            {"a.inner.weight": torch.zeros(2, 3), "b.inner.weight": torch.zeros(2, 3)},
            "the file has a.inner.weight, b.inner.weight",
        ),
        ({"state_dict": {}, "best": fractions.Fraction(1, 2)}, "objects other than tensors: fractions.Fraction"),
    ],
)
def test_the_error_lists_the_content_of_the_file(tmp_path, pair, content, message):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(InputError, match=re.escape(message)):
        load_weights(pair, read_checkpoint(path), path)


@pytest.mark.parametrize(("form", "ending"), [("safetensors", ".pth"), ("plain", ".safetensors")])
def test_the_format_is_found_by_content_and_not_by_extension(tmp_path, pair, form, ending):
    path = written(tmp_path, pair, form).rename(tmp_path / f"other{ending}")
    assert read_checkpoint(path).keys() == pair.state_dict().keys()


class Call:
    """Object that creates a file if it is unpickled without a check."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("as_zip", [True, False])
def test_python_objects_in_a_checkpoint_are_refused_and_not_run(tmp_path, pair, as_zip):
    target, path = tmp_path / "called", tmp_path / "weights.pth"
    content = {"state_dict": pair.state_dict(), "extra": Call(target)}
    torch.save(content, path, _use_new_zipfile_serialization=as_zip)
    with pytest.raises(InputError, match=r"weights\.pth: not readable as a checkpoint"):
        read_checkpoint(path)
    assert not target.exists()


def test_a_torchscript_archive_outside_the_catalogue_is_refused(tmp_path, pair):
    with pytest.raises(InputError, match=r"not in the catalogue; save its state_dict\(\) as safetensors"):
        read_checkpoint(written(tmp_path, pair, "torchscript"))


@pytest.mark.parametrize("content", [b"", b"no weights", b"PK\x03\x04cut"])
def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path, content):
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="not readable as a checkpoint"):
            read_checkpoint(tmp_path / name)


def test_weights_of_another_network_are_refused_by_name(tmp_path, pair):
    path = written(tmp_path, pair, "plain")
    with pytest.raises(ValueError, match=r"not those of AmtS: .* is missing, .* is needed"):
        load_weights(AmtS(), read_checkpoint(path), path)
