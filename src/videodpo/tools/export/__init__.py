"""Export the pairs of a finished round, so that others can train on them, or this program again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from videodpo.config.errors import InputError
from videodpo.storage.files import refuse_full_disk, rename_folder
from videodpo.tools.export.datasets_format import write_datasets
from videodpo.tools.export.pairs import ExportedPairs, read_exported_pairs
from videodpo.tools.export.videodpo_format import write_videodpo
from videodpo.tools.export.webdataset_format import write_webdataset

FORMATS: dict[str, Callable[[ExportedPairs, Path], None]] = {
    "videodpo": write_videodpo,
    "datasets": write_datasets,
    "webdataset": write_webdataset,
}


def export_pairs(run: Path, round_number: int, name: str, out: Path) -> int:
    """Write the pairs of a round and their clips to a new folder; the same pairs give the same bytes.

    Args:
        run: folder of the run.
        round_number: from 1.
        name: a key of `FORMATS`.
        out: the folder; it must not exist. It appears once it is complete.

    Returns:
        The number of pairs.

    Raises:
        InputError: `out` exists, or the run has no pairs.
        Damaged: a clip is missing or differs from what was written.
    """
    if out.exists():
        raise InputError(f"--out: {out} exists; name a new folder, or remove it first")
    pairs = read_exported_pairs(run, round_number)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a killed export
    try:
        with refuse_full_disk(out):
            partial.mkdir(parents=True)
            FORMATS[name](pairs, partial)
            rename_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(pairs.rows)
