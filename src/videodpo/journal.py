"""What a job made since it last wrote its table, a line a piece of work: so a kill costs the piece in hand."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from videodpo.files import refuse_full_disk, sync_folder

MAX_LINE = 2**26  # bytes


class Journal:
    """Lines of JSON, appended at the same price however many there are.

    Before each stands the SHA-256 of all that was written up to its end, and of what it depends on. So where a kill cut
    a line, where the file was changed, or where it belongs to other settings, the rest counts as never written.
    """

    def __init__(self, path: Path, about: Any) -> None:
        """about: what the lines depend on, as JSON."""
        self.found: list[Any] = []
        """What an earlier job appended."""
        self._path = path
        self._so_far = hashlib.sha256(_line(about))
        self._length = 0
        if path.exists():
            self._read()

    def _read(self) -> None:
        with open(self._path, "rb") as file:
            while line := file.readline(MAX_LINE):
                digest, _, text = line.partition(b" ")
                if digest != self._following(text).hexdigest().encode():
                    return
                self.found.append(json.loads(text))
                self._appended(text)

    def append(self, value: Any) -> None:
        """Add a line that survives a kill and a power cut.

        Raises:
            NoSpace: the disk is full. ValueError: a number is not finite.
        """
        text = _line(value)
        new = not self._path.exists()
        with refuse_full_disk(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "xb" if new else "r+b") as file:
                file.truncate(self._length)
                file.seek(self._length)
                file.write(self._following(text).hexdigest().encode() + b" " + text)
                file.flush()
                os.fsync(file.fileno())
            if new:
                sync_folder(self._path.parent)
        self._appended(text)

    def remove(self) -> None:
        """Once the table has it all."""
        self._path.unlink(missing_ok=True)

    def _following(self, text: bytes) -> hashlib._Hash:
        following = self._so_far.copy()
        following.update(text)
        return following

    def _appended(self, text: bytes) -> None:
        self._so_far = self._following(text)
        self._length += len(self._so_far.hexdigest()) + 1 + len(text)


def _line(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, allow_nan=False).encode() + b"\n"
