"""SHA-256 of large files, each computed once per run and cached by the file's size and time stamps."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from videodpo.runtime.locks import in_turn
from videodpo.storage.files import sha256_of, write_json

log = logging.getLogger(__name__)

_LARGE = 10**9  # bytes
MEMORY = "weights.json"
"""Cache file in the run's folder: size, time stamps and SHA-256 of each file. It is safe to delete."""


def remembered_sha256(path: Path, run: Path) -> str:
    """Return the SHA-256 of a file; read its bytes only if it changed since the run last read them.

    Concurrent jobs take turns, so that only one of them reads the file.

    Args:
        path: the file.
        run: folder of the run.
    """
    file = (run / MEMORY).resolve()  # in a study, a link to the file that all runs share
    with in_turn(file.parent, MEMORY):
        memory = _read(file)
        stat = path.stat()
        # A copy can keep the modification time (`cp -p`), but not st_ctime_ns, the time of the last change of any kind.
        state = f"{stat.st_size} bytes at {stat.st_mtime_ns}, {stat.st_ctime_ns}"
        entry = memory.get(name := str(path.absolute()))
        if entry is None or entry["state"] != state:
            if stat.st_size > _LARGE:
                log.info("%s: computing the SHA-256 of %.1f GB", path, stat.st_size / 1e9)
            entry = memory[name] = {"state": state, "sha256": sha256_of(path)}
            write_json(file, memory)
        return entry["sha256"]


def _read(path: Path) -> dict[str, dict[str, str]]:
    try:
        memory: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):  # without a cache, all digests are computed again
        return {}
    return memory
