"""Weights of scorers in the formats that they are published in."""

from __future__ import annotations

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
def test_tensors_come_out_of_every_published_format(tmp_path, pair, form, monkeypatch):
    path = written(tmp_path, pair, form)
    entry = {"what": "", "url": "", "sha256": sha256_of(path), "size": path.stat().st_size, "licence": "MIT"}
    monkeypatch.setitem(catalogue().files, "own.pt", PublishedFile(**entry))
    read = read_checkpoint(path)
    assert read.keys() == pair.state_dict().keys()
    for name, value in pair.state_dict().items():
        assert torch.equal(read[name], value), name
        assert read[name].dtype == value.dtype


class Call:
    """Creates a file when it is unpickled without a check."""

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
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path, content):
    for name in ("weights.pth", "weights.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="not readable as a checkpoint"):
            read_checkpoint(tmp_path / name)


def test_weights_of_another_network_are_refused_by_name(tmp_path, pair):
    path = written(tmp_path, pair, "plain")
    with pytest.raises(ValueError, match=r"not those of AmtS: .* is missing, .* is needed"):
        load_weights(AmtS(), read_checkpoint(path), path)
