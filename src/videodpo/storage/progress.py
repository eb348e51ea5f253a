"""Append-only log of finished work, so that a killed job loses at most the item in progress."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from videodpo.storage.files import refuse_full_disk, sync_folder


class Progress:
    """One job's finished work, one JSON value per line. The cost of an append does not grow with the log.

    Each line begins with the SHA-256 of the identity and of all lines up to and including its own. Reading stops at the
    first line whose SHA-256 does not match: a kill cut it, it changed on disk, or it has another identity. The next
    append overwrites it.

    Attributes:
        finished: the values, in the order of their appends.
    """

    def __init__(self, path: Path, identity: Any) -> None:
        """Read the log.

        Args:
            path: the file; it need not exist.
            identity: everything that the work depends on (settings, digests), as a JSON value.
        """
        self.finished: list[Any] = []
        self._path = path
        self._digest = hashlib.sha256(_json(identity))
        self._length = 0
        self._is_synced = False
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        for line in lines:
            digest, _, text = line.partition(b" ")
            following = self._digest.copy()
            following.update(text)
            if digest != following.hexdigest().encode():
                break
            self.finished.append(json.loads(text))
            self._digest, self._length = following, self._length + len(line)

    def append(self, value: Any) -> None:
        """Append a value and sync the file, so that the value survives a kill and a power cut.

        Raises:
            NoSpace: the disk is full.
            ValueError: a number in `value` is not finite.
        """
        text = _json(value)
        following = self._digest.copy()
        following.update(text)
        line = following.hexdigest().encode() + b" " + text
        with refuse_full_disk(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
                file.truncate(self._length)
                file.seek(self._length)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if not self._is_synced:
                sync_folder(self._path.parent)
        self.finished.append(value)
        self._digest, self._length, self._is_synced = following, self._length + len(line), True


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, allow_nan=False).encode() + b"\n"
