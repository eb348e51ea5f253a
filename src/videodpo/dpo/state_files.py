"""Reads torch's distributed checkpoints and runs nothing that they contain; torch's own reader unpickles anything."""

from __future__ import annotations

import importlib
import io
import pickle
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import load

from videodpo.config.errors import InputError
from videodpo.storage.files import first_line

# What torch's writer names in its index; the pickles of single values go through torch.load(weights_only=True).
_KNOWN = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
        "TensorProperties._MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "pathlib": {"Path", "PosixPath", "PurePosixPath"},
    "torch": {"Size", *(name for name, value in vars(torch).items() if isinstance(value, torch.dtype))},
}
# What a damaged file makes of torch's readers.
_UNREADABLE = (
    *(CheckpointException, OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError),
    *(AssertionError, ArithmeticError, MemoryError, pickle.UnpicklingError),
)


def read_state(state: dict[str, Any], folder: Path, *, no_dist: bool) -> None:
    """Fill `state`'s tensors and values in place, every process its share.

    Raises:
        ValueError: damaged, or not of this network; the message names the folder.
    """
    try:
        load(state, storage_reader=_Reader(folder), planner=_Planner(), no_dist=no_dist)
    except _UNREADABLE as error:
        cause = next(iter(error.failures.values()))[0] if isinstance(error, CheckpointException) else error
        raise unreadable(folder, first_line(cause)) from error


def unreadable(folder: Path, reason: str) -> InputError:
    """The error that says what to do."""
    return InputError(f"{folder}: not a readable training state ({reason}); remove it to go on from an earlier one")


def _member(kind: Any, name: str) -> Any:
    """How Python 3.11.2 pickles a member of an enumeration: as an attribute of it."""
    if not (isinstance(kind, type) and issubclass(kind, Enum) and name in kind.__members__):
        raise pickle.UnpicklingError(f"{kind}.{name} is no part of an index")
    return kind[name]


class _Index(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _member
        if name not in _KNOWN.get(module, ()):
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an index")
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found


class _Reader(FileSystemReader):
    def read_metadata(self, *args: Any, **options: Any) -> Metadata:
        path: Any = self._get_metadata_path(options.get("rank"))
        with open(path, "rb") as handle:
            metadata = _Index(handle).load()
        if not isinstance(metadata, Metadata):
            raise pickle.UnpicklingError("no index in it")
        metadata.storage_meta = metadata.storage_meta or StorageMeta()
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _Planner(DefaultLoadPlanner):
    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        checked = io.BytesIO()
        torch.save(torch.load(value, weights_only=True), checked)
        checked.seek(0)
        super().load_bytes(read_item, checked)
