"""How a command ends that does not succeed: exit codes, and which errors are for users to read."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from videodpo.config import ConfigError

# Rights, a read-only or a full disk, a name too long or of something else.
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOTDIR)


class Interrupted(RuntimeError):
    """A signal asked a job to stop: what it has is saved, and starting it again goes on from there."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


def is_ours(error: Exception) -> bool:
    """Whether a `raise` of this package made it, for users to read; a library's error keeps its traceback.

    A library's compiled code has no line of its own here: its error comes out of a line of ours that raises nothing.
    """
    origin = traceback.extract_tb(error.__traceback__)[-1]
    ours = Path(origin.filename).is_relative_to(Path(__file__).parents[1])
    return isinstance(error, ConfigError) or (ours and (origin.line or "").startswith("raise"))


def is_refusal(error: Exception) -> bool:
    """Whether the file system said no: its words are for users to read."""
    return isinstance(error, OSError) and error.errno in _REFUSALS
