"""What a job made since it last wrote its table, a line a piece of work: so a kill costs the piece in hand."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from videodpo.storage.files import refuse_full_disk, sync_folder


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
        self._so_far = hashlib.sha256(_json(about))
        self._length = 0
        self._synced = False
        try:
            with open(path, "rb") as file:
                self._read(file.readlines())
        except FileNotFoundError:
            pass

    def _read(self, lines: list[bytes]) -> None:
        for line in lines:
            digest, _, text = line.partition(b" ")
            so_far = _after(self._so_far, text)
            if digest != so_far.hexdigest().encode():
                return
            self.found.append(json.loads(text))
            self._so_far, self._length = so_far, self._length + len(line)

    def append(self, value: Any) -> None:
        """Add a line that survives a kill and a power cut.

        Raises:
            NoSpace: the disk is full. ValueError: a number is not finite.
        """
        text = _json(value)
        so_far = _after(self._so_far, text)
        line = so_far.hexdigest().encode() + b" " + text
        with refuse_full_disk(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
                file.truncate(self._length)
                file.seek(self._length)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if not self._synced:
                sync_folder(self._path.parent)
        self._so_far, self._length, self._synced = so_far, self._length + len(line), True

    def remove(self) -> None:
        """Once the table has it all."""
        self._path.unlink(missing_ok=True)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, allow_nan=False).encode() + b"\n"


def _after(so_far: hashlib._Hash, text: bytes) -> hashlib._Hash:
    following = so_far.copy()
    following.update(text)
    return following
