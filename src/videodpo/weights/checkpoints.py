"""Reads tensors from the formats in which weights are published; code in a file of unknown origin never runs."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from videodpo.config.errors import InputError
from videodpo.storage.files import first_line, sha256_of
from videodpo.weights.catalogue import catalogue

_WRAPPERS = ("state_dict", "model", "params")  # keys under which published files keep the tensors


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors by name onto the CPU, without a wrapper (`state_dict`, `model`) and without the prefix `module.`.

    Args:
        path: safetensors, a file of torch.save, or a TorchScript archive of the catalogue. `torch.jit.load` runs the
            archive's own `__setstate__`, so any other archive is refused.

    Raises:
        InputError: not readable, no tensors by name, other Python objects, or an unknown TorchScript archive.
    """
    found = _read(path)
    while isinstance(found, dict) and (inner := [key for key in _WRAPPERS if isinstance(found.get(key), dict)]):
        found = found[inner[0]]
    if not isinstance(found, dict) or not any(isinstance(value, torch.Tensor) for value in found.values()):
        raise InputError(f"weights: {path}: holds no tensors by name")
    return {str(key).removeprefix("module."): value for key, value in found.items() if isinstance(value, torch.Tensor)}


def read_tensors(path: Path) -> list[torch.Tensor]:
    """Read a list of tensors that torch.save wrote onto the CPU.

    Raises:
        InputError: not readable, or anything else in it.
    """
    found = _read(path)
    if not isinstance(found, list) or not all(isinstance(value, torch.Tensor) for value in found):
        raise InputError(f"weights: {path}: holds no list of tensors")
    return [value.detach() for value in found]


def load_weights(network: torch.nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Load tensors into a network and prepare it for inference: float32, eval mode, no gradients.

    Raises:
        InputError: names or shapes do not fit; the message has the first of them.
    """
    # A counter of batches may be a scalar or a vector of one element.
    wanted = {name: tuple(value.shape) or (1,) for name, value in network.state_dict().items()}
    there = {name: tuple(value.shape) or (1,) for name, value in tensors.items()}
    wrong = [
        f"{name} is {there.get(name, 'missing')}, {shape} is needed"
        for name, shape in wanted.items()
        if there.get(name) != shape
    ]
    wrong += [f"{name} is not known" for name in there if name not in wanted]
    if wrong:
        kind = type(network).__name__
        raise InputError(f"weights: {path}: not those of {kind}: {wrong[0]} ({len(wrong)} tensors do not fit)")
    network.load_state_dict({name: value.float() for name, value in tensors.items()})
    network.float().eval().requires_grad_(False)


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if _is_torchscript(path):
            return _read_torchscript(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # the libraries do not say what a damaged file raises
        raise InputError(f"weights: {path}: not readable as a checkpoint ({_reason(error)})") from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    if sha256_of(path) not in {file.sha256 for file in catalogue().files.values()}:
        raise InputError(
            f"weights: {path}: not readable as a checkpoint (a TorchScript archive holds code, and this one is not in "
            "the catalogue; save its state_dict() as safetensors)"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated")
        archive = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    tensors: dict[str, torch.Tensor] = archive.state_dict()
    return tensors


def _reason(error: Exception) -> str:
    if str(error).startswith("Weights only load failed"):  # torch continues with how to run what is in the file
        return "damaged, or it holds Python objects other than tensors"
    return first_line(error)
