"""torch's launcher with its own options; it exits with the code of its processes, without its own traceback."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as launch

from videodpo.runtime.exit_codes import Interrupted


def main(arguments: Sequence[str]) -> int:
    """Run torch's launcher in the main thread.

    Args:
        arguments: of `torch.distributed.run`; its `--signals-to-handle` must leave SIGINT out.

    Returns:
        0 on success; the exit code of the first process that failed (128 + the number of a signal that ended it); 75
        after a signal to stop, which was forwarded to every process before waiting for all of them.
    """
    signal.signal(signal.SIGINT, _stop)
    try:
        launch(arguments)
    except ChildFailedError as error:  # the processes have printed why
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    except SignalException:
        return Interrupted.exit_code
    return 0


def _stop(number: int, _: FrameType | None) -> None:
    """First Ctrl-C: torch's launcher forwards it and waits. The processes are not in the terminal's process group."""
    signal.signal(signal.SIGINT, _kill)
    raise SignalException("Ctrl-C", sigval=signal.Signals(number))


def _kill(number: int, _: FrameType | None) -> None:
    """Second Ctrl-C: kill the processes and this one."""
    for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split():
        os.kill(int(child), signal.SIGKILL)
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
