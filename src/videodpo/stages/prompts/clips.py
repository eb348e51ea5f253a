"""Turn a list of the user's own clips into the table that the import reads; check that the first clips exist."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

from videodpo.config import ConfigError, Source
from videodpo.stages.prompts.cleaning import clean, prompt_id
from videodpo.stages.prompts.sources import read_manifest

CHECKED = 100  # number of clips that must exist before a run starts


def clip_rows(source: Source, wanted: set[str]) -> list[dict[str, Any]]:
    """Rows of `schemas.CLIPS`: clips of the wanted prompts, numbered per prompt in the order of the list.

    Paths in the list are relative to the list's own folder.

    Raises:
        ConfigError: a row has no path, or no prompt has two clips, so that there are no pairs.
    """
    assert source.path is not None, "the configuration refuses clips without a path"
    manifest = Path(source.path)
    counts: Counter[str] = Counter()
    rows = []
    for number, (text, path) in read_manifest(manifest, source.column):
        _refuse_no_path(manifest, number, path)
        name = prompt_id(clean(str(text or "")))
        if name in wanted:
            rows.append({"prompt_id": name, "sample": counts[name], "path": str(clip_path(manifest, path))})
            counts[name] += 1
    if counts and max(counts.values()) < 2:
        raise ConfigError(f"prompts.source.path: {manifest.name}: no prompt has two clips, so there are no pairs")
    return sorted(rows, key=lambda row: (row["prompt_id"], row["sample"]))


def check_clips(source: Source, max_missing: float) -> None:
    """Check that the first clips of the list exist.

    Args:
        max_missing: largest fraction of them that may be missing.

    Raises:
        ConfigError: a row has no path, or too many clips are missing; the message has full paths.
    """
    assert source.path is not None, "the configuration refuses clips without a path"
    manifest = Path(source.path)
    paths = []
    for number, (_, path) in itertools.islice(read_manifest(manifest, source.column), CHECKED):
        _refuse_no_path(manifest, number, path)
        paths.append(clip_path(manifest, path).absolute())
    missing = [str(path) for path in paths if not path.is_file()]
    if len(missing) > max_missing * len(paths):
        raise ConfigError(
            f"prompts.source.path: {manifest.name}: {len(missing)} of the first {len(paths)} clips are missing: "
            f"{', '.join(missing[:3])}{', ...' if missing[3:] else ''}; paths are relative to the list's folder and "
            "name files on this machine"
        )


def clip_path(manifest: Path, path: Any) -> Path:
    """Path of a clip; entries of the list are relative to its folder."""
    return manifest.parent / str(path)


def _refuse_no_path(manifest: Path, number: int, path: Any) -> None:
    if not path:
        raise ConfigError(f"prompts.source.path: {manifest.name}: row {number} has no path")
