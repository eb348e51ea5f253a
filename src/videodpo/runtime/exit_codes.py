"""Exit codes, and which errors of the file system are shown without a traceback."""

from __future__ import annotations

import errno

from videodpo.config.errors import RunError

# Rights, a read-only or a full disk, a name that is too long or of something else.
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOTDIR)


class Interrupted(RunError):
    """A signal asked a job to stop: what it has is saved, and starting it again resumes from there."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


def is_refusal(error: OSError) -> bool:
    """True if the file system refused: its own words are for users to read."""
    return error.errno in _REFUSALS
