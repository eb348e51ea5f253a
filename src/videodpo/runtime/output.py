"""Standard output that accepts any text and may be closed early by its reader, as `| head` does."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def tolerant_output() -> Iterator[None]:
    """Escape characters that the terminal's encoding lacks, and exit as after SIGPIPE once the reader is gone.

    SIGPIPE itself stays ignored, as is Python's default. Otherwise it would kill a training whose connection to a
    tracker breaks.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            yield
        except SystemExit:  # raised by --help
            print(end="", flush=True)
            raise
        print(end="", flush=True)
    except BrokenPipeError:
        if not _reader_is_gone():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout when it exits
        sys.exit(128 + signal.SIGPIPE)


def _reader_is_gone() -> bool:
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))
