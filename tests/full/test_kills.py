"""kill -9 at any moment of a writer: the final file is absent or complete, and no temporary file is left."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.support.writers import WRITERS, write_for_ever

MOST = 100  # tries until a kill hits a partly written file


@pytest.fixture(scope="module")
def server():
    """Server that forks each writer from a process that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.writers"])
    return context


def products(folder: Path) -> list[Path]:
    """Files under their final names."""
    return [path for path in folder.rglob("*") if not path.is_dir() and not hidden(path.relative_to(folder))]


def hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_killed_writer_leaves_a_complete_file_or_none(tmp_path, server, kind, fault_tries, figures):
    writer, draws = WRITERS[kind], random.Random(kind)
    path = tmp_path / "place" / writer.name
    found = {"absent": 0, "whole": 0, "caught writing": 0}
    number = 0
    while number < fault_tries or (not found["caught writing"] and number < MOST):
        if number % 2:  # from now on the writer replaces a file
            writer.write(path, 1)
        elif path.parent.exists():
            shutil.rmtree(path.parent)
        ready = server.Event()
        process = server.Process(target=write_for_ever, args=(kind, path, ready))
        process.start()
        assert ready.wait(60)
        time.sleep(draws.uniform(0, 0.2))
        assert process.is_alive()
        process.kill()
        process.join()
        left = [] if not path.parent.exists() else list(path.parent.rglob(".*.partial"))
        found["caught writing"] += bool(left)
        if path.parent.exists() and products(path.parent):
            assert writer.read(path) in (1, 2)
            found["whole"] += 1
        else:
            assert number % 2 == 0, "the old file is gone"
            found["absent"] += 1
        number += 1
    assert found["caught writing"], "no kill hit a partly written file: the test shows nothing"
    writer.write(path, 1)
    writer.write(path, 2)
    assert writer.read(path) == 2
    left = [name for name in path.parent.rglob("*") if ".partial" in name.name or ".scratch" in name.name]
    assert left == [], "temporary files of killed writers are never removed"
    figures(f"killed writer, {kind}", {"tries": number, **found})
