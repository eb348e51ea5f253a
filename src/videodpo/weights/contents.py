"""Check the first bytes of weights, so that a failed download is reported before a job starts. Loads no tensors."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

from videodpo.config.errors import InputError
from videodpo.storage.files import read_json

DIFFUSERS, TRANSFORMERS = "diffusion_pytorch_model", "model"
"""Names of a network's weights without extension, as each library expects them."""
_HEAD = 512  # bytes; enough to recognize a format
_PAGES = (b"<!doctype", b"<html", b"<?xml", b"<head", b"<body", b"<error")
_OTHER_FORMATS = {
    b"\x1f\x8b": "is compressed by gzip; unpack it, for example with gunzip",
    b"\xfd7zXZ": "is compressed by xz; unpack it, for example with unxz",
    b"(\xb5/\xfd": "is compressed by zstd; unpack it, for example with unzstd",
    b"BZh": "is compressed by bzip2; unpack it, for example with bunzip2",
    b"7z\xbc\xaf": "is a 7z archive; unpack it",
    b"Rar!": "is a RAR archive; unpack it",
    b"\x89HDF": "is an HDF5 file; PyTorch or safetensors weights are needed",
    b"GGUF": "is a GGUF file; PyTorch or safetensors weights are needed",
    b"\x93NUMPY": "is a NumPy array; PyTorch or safetensors weights are needed",
}
_PICKLE = b"\x80"
_ZIP = b"PK\x03\x04"


def download_fault(path: Path) -> str | None:
    """Detect a failed download of a file of any format: a pointer, a web page, or an empty file.

    Returns:
        The fault and its fix, worded to follow the file's name; None if there is no fault.
    """
    head = _head(path)
    if not head:
        return "is empty; download it again"
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "is a Git LFS pointer, not the file itself; run `git lfs pull` in its repository"
    if head.startswith(b"/annex/objects/"):
        return "is a git-annex pointer, not the file itself; run `git annex get` in its repository"
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGES):
        return "is a web page, not the file itself; the download failed, so download it again"
    return None


def checkpoint_fault(path: Path) -> str | None:
    """Like `download_fault`, for a file that `read_checkpoint` will read: safetensors, or a file of torch.save."""
    if fault := download_fault(path):
        return fault
    head = _head(path)
    if other := next((text for magic, text in _OTHER_FORMATS.items() if head.startswith(magic)), None):
        return other
    if head.startswith(_ZIP):
        return _zip_fault(path)
    if is_safetensors(path):
        return _safetensors_fault(path)
    if head.startswith(_PICKLE) or head[257:262] == b"ustar":  # torch.save before 1.6, or before 0.2 (tar)
        return None
    text = head.splitlines()[0][:60]
    shown = f" (it begins with {text.decode()!r})" if text.isascii() and text.decode().isprintable() else ""
    return f"is neither safetensors nor a file of torch.save{shown}; download it again"


def is_safetensors(path: Path) -> bool:
    """True if a file begins like safetensors, regardless of its extension."""
    head = _head(path)
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32


def refuse_fault(path: Path, key: str = "weights") -> None:
    """Raise InputError if `read_checkpoint` cannot read a file; the message says what the file is."""
    if fault := checkpoint_fault(path):
        raise InputError(f"{key}: {path}: not readable as a checkpoint: it {fault}")


def refuse_network(folder: Path, stem: str, key: str) -> None:
    """Refuse the folder of a network if its safetensors are missing, incomplete, or in another format.

    Args:
        folder: folder of the network.
        stem: name of the weights without extension, as the library expects it.
        key: key of the configuration, for the message.

    Raises:
        InputError: the weights are unusable; the message says what the folder has instead, and what to do.
    """
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if index.is_file() and (stem == DIFFUSERS or not single.is_file()):  # if both exist, diffusers reads the shards
        files = _shards(index, key)
    elif single.is_file():
        files = [single]
    else:
        raise InputError(f"{key}: {folder} has no {single.name}{_instead(folder, stem)}")
    for file in files:
        if fault := download_fault(file):
            raise InputError(f"{key}: {file} {fault}")
        if not is_safetensors(file):
            raise InputError(f"{key}: {file} is not safetensors, despite its name; download it again")
        if fault := _safetensors_fault(file):
            raise InputError(f"{key}: {file} {fault}")


def refuse_downloads(folder: Path, patterns: tuple[str, ...], key: str) -> None:
    """Raise InputError if a small file of a model folder (settings, vocabulary) is a pointer or a web page."""
    for file in (file for pattern in patterns for file in sorted(folder.glob(pattern))):
        if file.suffix != ".safetensors" and file.is_file() and (fault := download_fault(file)):
            raise InputError(f"{key}: {file} {fault}")


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_HEAD)
    except OSError as error:
        raise InputError(f"{path}: not readable ({error.strerror})") from error


def _zip_fault(path: Path) -> str | None:
    if not zipfile.is_zipfile(path):  # the table of contents is at the end of a zip file
        return "is incomplete (its end is missing); download it again"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error):
        return "is damaged; download it again"
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return None
    return f"is a zip archive of {', '.join(names[:3])}; unpack it and name the file in it"


def _safetensors_fault(path: Path) -> str | None:
    """Compare a file's length with the length that follows from its header."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length)
    size = path.stat().st_size
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        cut = len(header) < length
        return f"{'is incomplete' if cut else 'has a damaged header'}; download it again"
    if (wanted := 8 + length + max(ends, default=0)) != size:
        return f"has {size} bytes, {wanted} by its header; download it again"
    return None


def _shards(index: Path, key: str) -> list[Path]:
    if fault := download_fault(index):
        raise InputError(f"{key}: {index} {fault}")
    content = read_json(index)
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise InputError(f"{key}: {index} lists no files (weight_map); download it again")
    files = [index.with_name(name) for name in sorted(set(named.values()))]
    if missing := [file.name for file in files if not file.is_file()]:
        raise InputError(
            f"{key}: {index.parent} lacks {', '.join(missing)}, which {index.name} names "
            f"({len(missing)} of {len(files)} files are missing); download them"
        )
    return files


def _instead(folder: Path, stem: str) -> str:
    """Describe what a folder has in place of its safetensors, and what to do about it."""
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    if f"{stem}.safetensors" in names:
        return ": it is a broken link; download it again"
    if any(name.startswith(f"{stem}-") and name.endswith(".safetensors") for name in names):
        return f", only shards of it; download {stem}.safetensors.index.json, which lists them"
    variants = [name for name in names if name.startswith(f"{stem}.") and ".safetensors" in name]
    if variants:
        return (
            f", only the variant {variants[0]}; download the files without a variant, or save the folder again with "
            "diffusers: from_pretrained(..., variant=...).save_pretrained(...)"
        )
    if others := [name for name in names if name.endswith(".safetensors")]:
        return f", but {', '.join(others[:3])}; give the file the name that the library looks for"
    if pickles := [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5"))]:
        return (
            f", only {', '.join(pickles[:3])}, which is not read; download the safetensors, or save the folder again "
            "with from_pretrained(...).save_pretrained(..., safe_serialization=True)"
        )
    return f"; it has {', '.join(names[:5])}" if names else "; the folder is missing or empty"
