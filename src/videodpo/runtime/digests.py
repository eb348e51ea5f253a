"""SHA-256 of large files, each computed once per run and remembered by the file's size and time stamps."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from videodpo.runtime.locks import in_turn
from videodpo.storage.files import sha256_of, write_json

log = logging.getLogger(__name__)

_LARGE = 10**9  # bytes
MEMORY = "weights.json"
"""In the folder of the run: file to its size, time stamps and SHA-256. Removing it computes all digests again."""


def remembered_sha256(path: Path, run: Path) -> str:
    """The SHA-256 of a file; its bytes are read only if the run has not read them since the file last changed.

    Jobs that ask at the same time take turns, so that one of them reads the file.

    Args:
        path: the file. run: folder of the run.
    """
    with in_turn(run, MEMORY):
        memory = _read(run / MEMORY)
        stat = path.stat()
        # The second time is that of any change, which a copy that keeps the first one (`cp -p`) does not hide.
        state = f"{stat.st_size} bytes at {stat.st_mtime_ns}, {stat.st_ctime_ns}"
        entry = memory.get(name := str(path.absolute()))
        if entry is None or entry["state"] != state:
            if stat.st_size > _LARGE:
                log.info("%s: reading %.1f GB for their SHA-256", path, stat.st_size / 1e9)
            entry = memory[name] = {"state": state, "sha256": sha256_of(path)}
            write_json(run / MEMORY, memory)
        return entry["sha256"]


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        memory: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # without it, all digests are computed again
        return {}
    return memory
