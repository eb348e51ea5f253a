"""Settings of the stage prompts, and a function that runs it and reads its two tables."""

from pathlib import Path

import pytest

from videodpo.config import Prompts
from videodpo.runtime.settings import PromptsSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.prompts.stage import make_prompts
from videodpo.storage.tables import read_table


def prompts_of(kind: str, path: Path | str | None = None, **keys) -> Prompts:
    """Settings of the stage; keys of the source are recognised by name."""
    source = {key: keys.pop(key) for key in ("column", "name", "split", "max_toxicity") if key in keys}
    source |= {"kind": kind, "path": None if path is None else str(path)}
    return Prompts.model_validate({"source": source, "num_heldout": 0, **keys})


@pytest.fixture
def run(tmp_path):
    """Function that runs the stage and returns the prompts and the dropped prompts."""

    def _run(kind, path=None, seed=0, folder="run", **keys):
        settings = PromptsSettings(prompts=prompts_of(kind, path, **keys))
        place = tmp_path / folder
        make_prompts(
            Snapshot(stage="prompts", run="r", folder=place, seed=seed, settings=settings, weights={}, digest="d")
        )
        return read_table(place / "prompts.parquet"), read_table(place / "prompts_dropped.parquet")

    return _run
