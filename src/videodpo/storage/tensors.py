"""Write named tensors to safetensors files, and read them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videodpo.config.errors import InputError
from videodpo.storage.files import atomic_path, first_line, scratch_folder
from videodpo.storage.manifests import damaged

if TYPE_CHECKING:
    import torch


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors atomically; the same tensors give the same bytes.

    Args:
        path: final path.
        tensors: tensors by name, on any device.
        metadata: text by name, stored in the header.
    """
    from safetensors.torch import save_file

    with atomic_path(path) as partial:
        folder = scratch_folder(partial)  # the library creates a temporary file next to its output
        folder.mkdir()
        save_file(dict(tensors), folder / path.name, metadata=dict(metadata) if metadata else None)
        os.replace(folder / path.name, partial)


def sort_metadata(path: Path) -> None:
    """Sort the metadata of a safetensors file in place, so that the same content gives the same bytes.

    safetensors writes metadata entries in an order that changes from process to process.
    """
    with open(path, "r+b") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(length))
        metadata = header.pop("__metadata__", {})
        sorted_header = {"__metadata__": dict(sorted(metadata.items())), **header}
        text = json.dumps(sorted_header, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length, "the header's padding is not what safetensors writes"
        handle.seek(8)
        handle.write(text.ljust(length))


class TensorFile:
    """An open, memory-mapped safetensors file."""

    def __init__(self, path: Path) -> None:
        """Open a file.

        Raises:
            InputError: the file is missing.
            Damaged: the file is truncated, or not safetensors.
            OSError: the file may not be read.
        """
        from safetensors import SafetensorError, safe_open

        self._path = path
        try:
            path.open("rb").close()
            self._file: Any = safe_open(path, framework="pt")
        except PermissionError:  # a file without read permission is not damaged
            raise
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file; re-run the stage generate") from error
        except (OSError, SafetensorError) as error:
            raise damaged(path, f"not readable as safetensors ({first_line(error)})") from error

    @property
    def names(self) -> list[str]:
        """Names of the tensors."""
        return list(self._file.keys())

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata of the file; empty if it has none."""
        return dict(self._file.metadata() or {})

    def shape(self, name: str) -> list[int]:
        """Shape of one tensor, without reading it."""
        return list(self._file.get_slice(name).get_shape())

    def get(self, name: str) -> torch.Tensor:
        """Read one tensor to the CPU.

        Raises:
            InputError: there is no tensor of this name.
        """
        if name not in self._file.keys():  # noqa: SIM118 - not a mapping
            raise InputError(f"{self._path}: no tensor {name!r}; re-run the stage generate")
        tensor: torch.Tensor = self._file.get_tensor(name)
        return tensor
