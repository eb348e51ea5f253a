"""Reads files that may be hostile in a process of its own: a crash, a hang or a flood of memory is a finding.

Run as a program it answers one JSON line for each line [reader, path].
"""

from __future__ import annotations

import json
import os
import re
import resource
import select
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

MEMORY = 2 * 2**30  # bytes that one reading may take on top of what the process has
SECONDS = 20.0


class Worker:
    """The process, started again after a crash."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def ask(self, reader: str, path: Path, seconds: float = SECONDS) -> dict[str, Any]:
        """outcome: read, refused, escaped (any other exception), crashed or hung; message, seconds, megabytes."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([reader, str(path)]) + "\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], seconds)[0]:
            self.close()
            return {"outcome": "hung", "message": f"no answer in {seconds:g} s"}
        line = process.stdout.readline()
        if not line:
            code = process.wait()
            self.close()
            return {"outcome": "crashed", "message": f"exit code {code}"}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.full.hostile.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        return self._process

    def close(self) -> None:
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None


def attempt(name: str, path: Path) -> dict[str, Any]:
    """Read one file under a limit of memory, and say what came of it."""
    from tests.full.hostile.readers import READERS
    from videodpo.runtime.exit_codes import is_ours

    reader = READERS[name]
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, started = _status("VmRSS"), time.monotonic()
    resource.setrlimit(resource.RLIMIT_DATA, (_status("VmData") + MEMORY, resource.RLIM_INFINITY))
    outcome, message = "read", ""
    try:
        value = reader.read(path)
        if not isinstance(value, reader.gives):
            outcome, message = "escaped", f"a value of type {type(value).__name__}"
        del value
    except Exception as error:
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        message = str(error)
        named = (reader.named or path.name) in message or message.startswith("configuration: ")
        plain = isinstance(error, (ValueError, RuntimeError)) and is_ours(error)
        outcome = "refused" if plain and named and message.isprintable() | ("\n  " in message) else "escaped"
        if outcome == "escaped":
            message = "".join(traceback.format_exception(error)[-4:])
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return {
        "outcome": outcome,
        "message": message,
        "seconds": time.monotonic() - started,
        "megabytes": max(0, _status("VmHWM") - before) / 2**20,
    }


def _status(name: str) -> int:
    """Bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    for line in sys.stdin:
        name, path = json.loads(line)
        print(json.dumps(attempt(name, Path(path))), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
