"""Storage of a run's clips: one file per clip, or one tar file per shard. No other module knows which.

In the videos tables, the path of a clip in a tar file ends in `#START+SIZE`, its byte range in the tar file. Therefore
one clip can be read without the others, and any tar program can list all of them.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from videodpo.storage.files import atomic_path
from videodpo.storage.manifests import Damaged, damaged

_IN_TAR = re.compile(r"(.+\.tar)#(\d+)\+(\d+)")


def file_of(path: Path) -> Path:
    """Return the file that contains this clip.

    Args:
        path: path from a videos table, joined to the run's folder.
    """
    found = _IN_TAR.fullmatch(path.name)
    return path.with_name(found[1]) if found else path


def read_clip(path: Path, sha256: str) -> bytes:
    """Read the bytes of a clip's MP4.

    Args:
        path: path from a videos table, joined to the run's folder.
        sha256: SHA-256 from the same table.

    Raises:
        Damaged: the clip is missing, or its SHA-256 differs from the videos table.
    """
    file = file_of(path)
    if not file.is_file():
        raise damaged(file, "it is missing")
    content = read_content(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise damaged(path, "sha256 differs from the videos table")
    return content


def is_intact(path: Path, sha256: str) -> bool:
    """True if a clip exists and its SHA-256 agrees with the videos table."""
    try:
        read_clip(path, sha256)
    except Damaged:
        return False
    return True


def write_tar(tar: Path, clips: Iterable[tuple[str, bytes]]) -> list[str]:
    """Write clips to one tar file atomically; the same clips give the same bytes.

    Args:
        tar: final path.
        clips: name and bytes of each clip.

    Returns:
        Suffix of each clip's path, to append to the path of the tar file.
    """
    indices = []
    with atomic_path(tar) as partial, tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in clips:
            member = tarfile.TarInfo(name)  # without time and owner, for reproducible bytes
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
            padding = -len(content) % tarfile.BLOCKSIZE
            indices.append(f"#{archive.offset - padding - len(content)}+{len(content)}")
    return indices


def member_path(tar: str, member: tarfile.TarInfo) -> str:
    """Path of a clip in a tar file: its byte range."""
    return f"{tar}#{member.offset_data}+{member.size}"


def read_content(path: Path) -> bytes:
    """Read the bytes of a clip, from its own file or from a tar file, without a check of its digest."""
    found = _IN_TAR.fullmatch(path.name)
    if not found:
        return path.read_bytes()
    with open(path.with_name(found[1]), "rb") as handle:
        handle.seek(int(found[2]))
        return handle.read(int(found[3]))
