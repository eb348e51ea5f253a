"""How a command ends that does not succeed: exit codes, and what the file system refuses."""

from __future__ import annotations

import errno

# Rights, a read-only or a full disk, a name too long or of something else.
_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.ENOTDIR)


class Interrupted(RuntimeError):
    """A signal asked a job to stop: what it has is saved, and starting it again goes on from there."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


def is_refusal(error: Exception) -> bool:
    """Whether the file system said no: its words are for users to read."""
    return isinstance(error, OSError) and error.errno in _REFUSALS
