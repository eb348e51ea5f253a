"""Writes weights that a rehearsal needs: python bench/rehearsal_weights.py scorers|PRESET FOLDER [LAYERS].

It runs in its own process, so that its memory is freed at the end.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(what: str, folder: Path, layers: int | None) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    if what == "scorers":
        from rehearsal_scorers import write_scorers

        write_scorers(partial)
    else:
        from rehearsal_models import BUILDERS

        BUILDERS[what](partial, layers)
    partial.rename(folder)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
