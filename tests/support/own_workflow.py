"""A user's workflow that uses this one as a module: the example of docs/module.md, on a very small run."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.conftest import ROOT, small_run
from tests.support.doc_pages import read_blocks


def example() -> str:
    """The Snakefile on the page."""
    (block,) = read_blocks("docs/module.md")
    return block.text


def make_own_workflow(folder: Path, model: Path, snakefile: str) -> Path:
    """Make the folder of the user's workflow, next to a link to this repository."""
    own = folder / "own"
    own.mkdir()
    (folder / "videodpo").symlink_to(ROOT)
    (own / "Snakefile").write_text(snakefile, encoding="utf-8")
    raw = small_run(model, Path("results"), run="mine")
    (own / "align.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return own
