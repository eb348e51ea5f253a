"""Find the file at which a builder of Hugging Face's datasets failed. Works with datasets 5.2.0.

The errors of the library name the file only in some cases; in others, its log does. Public API would be an attribute of
`DatasetGenerationError`.
"""

from __future__ import annotations

import re
import traceback
from pathlib import Path

_BUILDERS = "datasets.packaged_modules."
_NAMED = re.compile(r"dataset builder was generating data using\s+(\S.*?)(?:, \[.*)?$", re.MULTILINE)


def file_at_fault(error: BaseException) -> Path | None:
    """Return the data file that a builder was reading; None if no builder was reading one.

    Args:
        error: error from `load_dataset`. Its causes are searched too: the builders' loops call their file `file`.
    """
    found: object = None
    at: BaseException | None = error
    while at is not None:
        if named := _NAMED.search(str(at)):
            found = named[1]
        for frame, _ in traceback.walk_tb(at.__traceback__):
            if frame.f_globals.get("__name__", "").startswith(_BUILDERS):
                found = frame.f_locals.get("file", found)
        at = at.__cause__
    return None if found is None else Path(str(found))
