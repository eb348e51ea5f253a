"""Exit codes, and which file system errors are shown without a traceback."""

from __future__ import annotations

import errno

from videodpo.config.errors import RunError

# Missing permissions, a read-only or full disk, a name that is too long, or a file in place of a folder.
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOTDIR)


class Interrupted(RunError):
    """A signal asked the job to stop. Its work is saved, and the next start resumes from there."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


def is_refusal(error: OSError) -> bool:
    """True if the file system refused an operation: its message is meant for users."""
    return error.errno in _REFUSALS
