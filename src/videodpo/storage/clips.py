"""Where a run's clips lie: each in a file, or those of a shard in one tar file; no other module knows which.

In the videos tables, the path of a clip in a tar file ends in `#START+SIZE`, the bytes that it takes there: so one clip
is read without the others, and any program that knows tar finds all of them.
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
    """The file that holds a clip.

    Args:
        path: as in a videos table, below the run's folder.
    """
    found = _IN_TAR.fullmatch(path.name)
    return path.with_name(found[1]) if found else path


def read_clip(path: Path, sha256: str) -> bytes:
    """The bytes of a clip's MP4.

    Args:
        path: as in a videos table, below the run's folder. sha256: as there.

    Raises:
        Damaged: they are gone, or not what the videos table says.
    """
    file = file_of(path)
    if not file.is_file():
        raise damaged(file, "it is gone")
    content = _bytes_at(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise damaged(path, "sha256 differs from the videos table")
    return content


def is_intact(path: Path, sha256: str) -> bool:
    """Whether a clip is there, and is what the videos table says."""
    try:
        read_clip(path, sha256)
    except Damaged:
        return False
    return True


def write_tar(tar: Path, clips: Iterable[tuple[str, bytes]]) -> list[str]:
    """Put clips into one tar file, atomically; the same clips give the same bytes.

    Args:
        clips: name and bytes of each.

    Returns:
        What each clip's path has behind the tar file's.
    """
    indices = []
    with atomic_path(tar) as partial, tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in clips:
            member = tarfile.TarInfo(name)  # of no time and nobody
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
            padding = -len(content) % tarfile.BLOCKSIZE
            indices.append(f"#{archive.offset - padding - len(content)}+{len(content)}")
    return indices


def _bytes_at(path: Path) -> bytes:
    found = _IN_TAR.fullmatch(path.name)
    if not found:
        return path.read_bytes()
    with open(path.with_name(found[1]), "rb") as handle:
        handle.seek(int(found[2]))
        return handle.read(int(found[3]))
