"""A machine with pretended GPUs: an `nvidia-smi` that lists them, and a separate folder for their locks."""

from __future__ import annotations

import os
from pathlib import Path


def pretend_gpus(folder: Path, count: int) -> dict[str, str]:
    """Write the command and return the environment in which jobs find it. The UUIDs are GPU-0-0, GPU-1-1, ..."""
    program = folder / "bin" / "nvidia-smi"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\nfor n in $(seq 0 {count - 1}); do echo GPU-$n-$n; done\n", encoding="utf-8")
    program.chmod(0o755)
    (folder / "tmp").mkdir()
    return {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(folder / "tmp")}
