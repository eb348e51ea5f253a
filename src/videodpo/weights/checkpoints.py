"""Reads tensors from the formats in which weights are published, and runs nothing that a file contains."""

from __future__ import annotations

import itertools
import math
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from videodpo.config.errors import InputError
from videodpo.storage.files import first_line

# What a damaged or hostile file makes of the readers, on top of saying so.
_UNREADABLE = (
    *(OSError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error),
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, MemoryError, AssertionError, ArithmeticError),
    struct.error,
)
_WRAPPERS = ("state_dict", "model", "params")  # keys under which published files keep the tensors
MAX_MODULES = 100_000
_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
}


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Name: tensor, on the CPU, as the file has them; a wrapper (`state_dict`, `model`) and `module.` are taken off.

    Args:
        path: safetensors, what torch.save wrote, or a TorchScript archive, of which only the tensors are read.

    Raises:
        ValueError: not readable, no tensors in it, or Python objects that are no tensors.
    """
    found = _read(path)
    while isinstance(found, dict) and (inner := [key for key in _WRAPPERS if isinstance(found.get(key), dict)]):
        found = found[inner[0]]
    if not isinstance(found, dict) or not any(isinstance(value, torch.Tensor) for value in found.values()):
        raise InputError(f"weights: {path}: holds no tensors by name")
    return {str(key).removeprefix("module."): value for key, value in found.items() if isinstance(value, torch.Tensor)}


def read_tensors(path: Path) -> list[torch.Tensor]:
    """A list of tensors that torch.save wrote, on the CPU.

    Raises:
        ValueError: not readable, or anything else in it.
    """
    found = _read(path)
    if not isinstance(found, list) or not all(isinstance(value, torch.Tensor) for value in found):
        raise InputError(f"weights: {path}: holds no list of tensors")
    return [value.detach() for value in found]


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if _is_torchscript(path):
            return _read_torchscript(path)
        _refuse_compressed(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (*_UNREADABLE, _safetensors_error()) as error:
        raise InputError(f"weights: {path}: not readable as a checkpoint ({_first_line(error)})") from error


def load_weights(network: torch.nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Put tensors into a network, and make it ready to be asked: float32, eval mode, no gradients.

    Raises:
        ValueError: names or shapes do not fit; the message has the first of them.
    """
    # A counter of batches may be a number or a list of one.
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


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def _refuse_compressed(path: Path) -> None:
    """torch stores tensors as they are: anything else could inflate to any size."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise pickle.UnpicklingError("a compressed archive; torch.save writes none")


def _read_torchscript(path: Path) -> dict[str, torch.Tensor]:
    """Parameters and buffers of the archived module tree, by their dotted names."""
    with zipfile.ZipFile(path) as archive:
        (pickled,) = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        with archive.open(pickled) as handle:
            root = _TensorReader(handle, archive, pickled.removesuffix("data.pkl")).load()
    tensors: dict[str, torch.Tensor] = {}
    _collect(root, "", tensors, itertools.count())
    return tensors


class _Archived:
    """Stands for any object of the archive's own classes: its attributes, and none of its code."""

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


class _TensorReader(pickle.Unpickler):
    """Unpickles tensors, containers and `_Archived`; everything else is refused."""

    def __init__(self, handle: Any, archive: zipfile.ZipFile, prefix: str) -> None:
        super().__init__(handle)
        self._archive, self._prefix = archive, prefix
        self._storages: dict[str, torch.Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return _Archived
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch.jit._pickle":  # typed lists
            return _FirstArgument
        raise pickle.UnpicklingError(f"{module}.{name} is no tensor")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            raise pickle.UnpicklingError(f"{kind!r} is no storage")
        if key not in self._storages:
            entry = self._archive.getinfo(f"{self._prefix}data/{key}")
            # torch stores tensors as they are: anything else could inflate to any size.
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size < count * dtype.itemsize:
                raise pickle.UnpicklingError(f"storage {key} is not {count} values as they are")
            data = bytearray(self._archive.read(entry))
            self._storages[key] = (
                torch.frombuffer(data, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)
            )
        return self._storages[key]


class _Rebuild:
    """Makes a tensor of a storage; a class, because a pickle can write into a function's attributes."""

    __slots__ = ()

    def __new__(cls, storage: torch.Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Any:
        if math.prod(size) > len(storage):  # a stride of 0 makes any size of one value
            raise pickle.UnpicklingError(f"a tensor of {tuple(size)} in a storage of {len(storage)}")
        return torch.as_strided(storage, tuple(size), tuple(stride), offset)


class _FirstArgument:
    __slots__ = ()

    def __new__(cls, values: Any, *_: Any) -> Any:
        return values


def _collect(node: Any, prefix: str, tensors: dict[str, torch.Tensor], visits: Iterator[int]) -> None:
    attributes = getattr(node, "attributes", None) if isinstance(node, _Archived) else None
    if not isinstance(attributes, dict):
        return
    if next(visits) > MAX_MODULES:  # modules that hold each other twice, and again, are more than can be walked
        raise pickle.UnpicklingError(f"more than {MAX_MODULES:,} modules")
    for name, value in attributes.items():
        if isinstance(value, torch.Tensor):
            tensors[f"{prefix}{name}"] = value
        else:
            _collect(value, f"{prefix}{name}.", tensors, visits)


def _safetensors_error() -> type[Exception]:
    from safetensors import SafetensorError

    return SafetensorError


def _first_line(error: Exception) -> str:
    if str(error).startswith("Weights only load failed"):  # torch goes on with how to run what is in the file
        return "damaged, or it holds Python objects that are no tensors"
    return first_line(error)
