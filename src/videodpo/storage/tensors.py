"""Tensors to safetensors files and back, with a digest for each, so that a reader checks what it reads alone."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videodpo.config.errors import InputError
from videodpo.storage.digests import Damaged, damaged, digest_path, product_path, read_digests
from videodpo.storage.files import first_line, scratch_folder

if TYPE_CHECKING:
    import torch

_HEADER = "header"  # a part's name; a tensor's is `tensor <name>`


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors by name atomically; the same tensors give the same bytes."""
    from safetensors.torch import save_file

    with product_path(path, _digests_of_parts) as partial:
        folder = scratch_folder(partial)  # the library writes to a name of its own beside the one that it is given
        folder.mkdir()
        save_file(dict(tensors), folder / path.name, metadata=dict(metadata) if metadata else None)
        os.replace(folder / path.name, partial)


def sort_metadata(path: Path) -> None:
    """Give a file that another library wrote the bytes that follow from its content.

    safetensors writes several entries of metadata in an order that changes from process to process.
    """
    with open(path, "r+b") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(length))
        metadata = header.pop("__metadata__", {})
        sorted_header = {"__metadata__": dict(sorted(metadata.items())), **header}
        text = json.dumps(sorted_header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length, "the header has other spaces than safetensors writes"
        handle.seek(8)
        handle.write(text.ljust(length))


class TensorFile:
    """An open file of tensors, memory-mapped; each is checked when it is first read."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            ValueError: the file is missing or cut, or its header is damaged; the message names it.
            OSError: it may not be read.
        """
        self._path = path
        self._known = read_digests(path) if path.exists() else []
        try:
            self._file = _opened(path)
        except ValueError as error:
            if self._known:
                raise damaged(path, f"not readable ({error.__cause__})") from error
            raise
        if self._known:
            header = _header_digest(path)
            self._known = [version for version in self._known if version.parts.get(_HEADER) == header]
            if not self._known:
                raise damaged(path, "the header is not what was written")
        self._checked: set[str] = set()

    @property
    def names(self) -> list[str]:
        return list(self._file.keys())

    @property
    def metadata(self) -> dict[str, str]:
        return dict(self._file.metadata() or {})

    def shape(self, name: str) -> list[int]:
        """A tensor's, without reading it."""
        return list(self._file.get_slice(name).get_shape())

    def get(self, name: str) -> torch.Tensor:
        """One tensor, on the CPU.

        Raises:
            ValueError: there is none of this name.
            Damaged: it is not what was written.
        """
        if name not in self._file.keys():  # noqa: SIM118 - no mapping
            raise InputError(f"{self._path}: no tensor {name!r}; run the stage generate again")
        tensor: torch.Tensor = self._file.get_tensor(name)
        if self._known and name not in self._checked:
            digest = _digest(tensor)
            if all(version.parts.get(_part(name)) != digest for version in self._known):
                raise damaged(self._path, f"tensor {name} is not what was written")
            self._checked.add(name)
        return tensor


def intact_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Those of a file's tensors that are what was written, by name; none where the file itself cannot be read."""
    found = {}
    try:
        file = TensorFile(path)
    except ValueError:
        return {}
    for name in file.names:
        with suppress(Damaged):
            found[name] = file.get(name)
    return found


def fault_of_parts(path: Path) -> str | None:
    """What is wrong with the digests of a file's tensors, where the file itself is what was written."""
    known = [version.parts for version in read_digests(path)]
    if not any(known) or _digests_of_parts(path) in known:
        return None
    return f"{digest_path(path).name} beside it has other digests of its tensors"


def _opened(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        path.open("rb").close()
        return safe_open(path, framework="pt")
    except PermissionError:  # what may not be read is not damaged
        raise
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not readable as safetensors ({first_line(error)})") from error


def _digests_of_parts(path: Path) -> dict[str, str]:
    file = _opened(path)
    tensors = {_part(name): _digest(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118 - no mapping
    return {_HEADER: _header_digest(path), **tensors}


def _part(name: str) -> str:
    return f"tensor {name}"


def _header_digest(path: Path) -> str:
    """Of the file up to its first tensor: names, types, shapes and metadata."""
    with open(path, "rb") as handle:
        length = handle.read(8)
        return hashlib.sha256(length + handle.read(int.from_bytes(length, "little"))).hexdigest()


def _digest(tensor: torch.Tensor) -> str:
    import torch

    return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data).hexdigest()
