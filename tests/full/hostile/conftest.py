"""One reading process for all hostile files, and the count of what came of them."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.full.hostile.worker import Worker
from videodpo.storage.tables import commit


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


@pytest.fixture(scope="session")
def tally() -> Iterator[dict[str, Counter[str]]]:
    """Reader to outcomes; written as JSON where VIDEODPO_FUZZ_RESULTS names a file."""
    counts: dict[str, Any] = {}
    yield counts
    if place := os.environ.get("VIDEODPO_FUZZ_RESULTS"):
        tries = os.environ.get("VIDEODPO_FUZZ_TRIES", "40")
        command = (
            f"VIDEODPO_FUZZ_TRIES={tries} VIDEODPO_FUZZ_RESULTS=FILE pytest tests/full/hostile/test_malformed_files.py"
        )
        about = {
            "command": command,
            "commit": commit(),
            "machine": f"{platform.machine()}, Python {platform.python_version()}",
        }
        Path(place).write_text(
            json.dumps(about | {"readers": counts}, indent=2, sort_keys=True) + "\n", encoding="utf-8"
        )
