"""A list of the user's own clips to the table that the import reads."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from videodpo.config import ConfigError, Source
from videodpo.stages.prompts.cleaning import clean, prompt_id
from videodpo.stages.prompts.sources import read_manifest


def clip_rows(source: Source, wanted: set[str]) -> list[dict[str, Any]]:
    """Rows of `tables.CLIPS`: clips of the wanted prompts, numbered within each in the list's order.

    Paths in the list count from the list's own folder.

    Raises:
        ConfigError: a row without a path, or no prompt with two clips, so that there is no pair.
    """
    assert source.path is not None, "the configuration refuses clips without a path"
    manifest = Path(source.path)
    counts: Counter[str] = Counter()
    rows = []
    for number, (text, path) in read_manifest(manifest, source.column):
        if not path:
            raise ConfigError(f"prompts.source.path: {manifest.name}: row {number} has no path")
        name = prompt_id(clean(str(text or "")))
        if name in wanted:
            rows.append({"prompt_id": name, "sample": counts[name], "path": str(manifest.parent / str(path))})
            counts[name] += 1
    if counts and max(counts.values()) < 2:
        raise ConfigError(f"prompts.source.path: {manifest.name}: no prompt has two clips, so there are no pairs")
    return sorted(rows, key=lambda row: (row["prompt_id"], row["sample"]))
