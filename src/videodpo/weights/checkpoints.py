"""Read tensors from the formats in which weights are published. Code in a file of unknown origin never runs."""

from __future__ import annotations

import argparse
import warnings
import zipfile
from collections.abc import Iterable, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from videodpo.config.errors import InputError
from videodpo.storage.files import first_line, sha256_of
from videodpo.weights.catalogue import catalogue
from videodpo.weights.contents import is_safetensors, refuse_fault

# Keys under which published files and trainers store the tensors. If a file has several of them, the first is read.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "params", "params_ema", "teacher", "ema", "model_ema", "net")
_LEADING = ("module.",)  # added by data parallelism
_ANYWHERE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")  # added by torch's other wrappers
_SHOWN = 3  # names in a message


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Read named tensors onto the CPU, without wrappers (`state_dict`, `teacher`) and prefixes of wrapped networks.

    The format is detected from the first bytes, not from the extension. TorchScript archives outside of the catalogue
    are refused, because `torch.jit.load` runs the archive's own `__setstate__`.

    Args:
        path: safetensors, a file of torch.save, or a TorchScript archive of the catalogue.

    Raises:
        InputError: the file is not readable, has no named tensors, contains other Python objects, or is an unknown
            TorchScript archive.
    """
    found = _read(path)
    while isinstance(found, dict) and (key := _wrapper(found)) is not None:
        found = found[key]
    if not isinstance(found, dict) or not _has_tensors(found):
        there = f"it has {names_of(found)}" if isinstance(found, dict) else f"it is a {type(found).__name__}"
        raise InputError(f"weights: {path}: has no named tensors; {there}")
    return {_without_wrappers(str(key)): value for key, value in found.items() if isinstance(value, torch.Tensor)}


def _wrapper(found: dict[Any, Any]) -> Any:
    """Key of the dictionary that contains the tensors: a known key, otherwise the only one with named tensors."""
    known = [key for key in _WRAPPERS if isinstance(found.get(key), dict)]
    if known or _has_tensors(found):
        return known[0] if known else None
    others = [key for key, value in found.items() if isinstance(value, dict) and _has_tensors(value)]
    return others[0] if len(others) == 1 else None


def _has_tensors(found: dict[Any, Any]) -> bool:
    return any(isinstance(value, torch.Tensor) for value in found.values())


def _without_wrappers(name: str) -> str:
    for part in _ANYWHERE:
        name = name.replace(part, "")
    while name.startswith(_LEADING):
        name = name.partition(".")[2]
    return name


def names_of(found: Iterable[Any]) -> str:
    """First names and the number of names, for a message."""
    names = [str(name) for name in found]
    rest = f", ... ({len(names)} names)" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest if names else "nothing"


def read_tensors(path: Path) -> list[torch.Tensor]:
    """Read a list of tensors from a file of torch.save onto the CPU.

    Raises:
        InputError: the file is not readable, or contains anything else.
    """
    found = _read(path)
    if not isinstance(found, list) or not all(isinstance(value, torch.Tensor) for value in found):
        raise InputError(f"weights: {path}: has no list of tensors")
    return [value.detach() for value in found]


def load_weights(network: torch.nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Load tensors into a network and prepare it for inference: float32, eval mode, no gradients.

    Args:
        network: changed in place.
        tensors: all tensors of the file; those of other networks in it are ignored.
        path: the file, for messages.

    Raises:
        InputError: names or shapes do not match, as `fitting_tensors`.
    """
    tensors = fitting_tensors(network, tensors, path)
    network.load_state_dict({name: value.float() for name, value in tensors.items()})
    network.float().eval().requires_grad_(False)


def fitting_tensors(network: torch.nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors under the names of the network, without a prefix that all of them have in the file.

    Raises:
        InputError: names or shapes do not match; the message has the first mismatch and some names in the file.
    """
    tensors = _own_tensors(network.state_dict().keys(), tensors)
    # A batch counter may be a scalar or a vector of one element.
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
        raise InputError(
            f"weights: {path}: not those of {kind}: {wrong[0]} ({len(wrong)} tensors do not fit); "
            f"the file has {names_of(tensors)}"
        )
    return tensors


def _own_tensors(wanted: Set[str], tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Strip the one prefix under which all wanted names exist, for example `backbone.` or `teacher.backbone.`.

    Other tensors in the file belong to other networks, such as a head or a student, and are left out. If several
    prefixes fit, those that begin with a known wrapper win. If several remain, the tensors are returned unchanged.
    """
    first = next(iter(wanted), "")
    if first in tensors:
        return tensors
    prefixes = [name.removesuffix(first) for name in tensors if name.endswith(f".{first}")]
    found = {prefix: _below(prefix, tensors) for prefix in prefixes}
    fitting = {prefix: own for prefix, own in found.items() if own.keys() == wanted}
    known = {prefix: own for prefix, own in fitting.items() if prefix.partition(".")[0] in _WRAPPERS}
    choice = list((known if len(fitting) > 1 else fitting).values())
    return choice[0] if len(choice) == 1 else tensors


def _below(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _read(path: Path) -> Any:
    refuse_fault(path)
    try:
        if is_safetensors(path):
            from safetensors.torch import load_file

            return load_file(path)
        if _is_torchscript(path):
            return _read_torchscript(path)
        safe = torch.serialization.safe_globals([argparse.Namespace])  # options of a trainer: attributes without code
        with safe, open(path, "rb") as file:  # given a path, torch trusts the extension
            return torch.load(file, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except Exception as error:  # the libraries do not document what a damaged file raises
        raise InputError(f"weights: {path}: not readable as a checkpoint ({_reason(error, path)})") from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    if sha256_of(path) not in {file.sha256 for file in catalogue().files.values()}:
        raise InputError(
            f"weights: {path}: not readable as a checkpoint (a TorchScript archive contains code, and this is not in "
            "the catalogue; save its state_dict() as safetensors)"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated")
        archive = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    tensors: dict[str, torch.Tensor] = archive.state_dict()
    return tensors


def _reason(error: Exception, path: Path) -> str:
    if not str(error).startswith("Weights only load failed"):  # torch's next lines explain how to run its code
        return first_line(error)
    others: list[str] = []
    if zipfile.is_zipfile(path):
        with suppress(Exception):  # the pickle is damaged; what it raises is not documented
            others = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if others:
        return f"it holds Python objects other than tensors: {names_of(others)}; save its tensors alone, as safetensors"
    return "damaged, or it holds Python objects other than tensors"
