"""Stop between two batches or steps after Ctrl-C, or after SIGTERM or SIGUSR1, which clusters send before a kill."""

from __future__ import annotations

import logging
import signal
from types import FrameType, TracebackType
from typing import Any

from videodpo.runtime.exit_codes import Interrupted

log = logging.getLogger(__name__)
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Interrupts:
    """Context in which these signals are only recorded; `asked` names the last one. A second Ctrl-C kills."""

    def __init__(self) -> None:
        self.asked: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop_here(self, done: str) -> None:
        """Stop if a signal came. Call this only when everything is saved.

        Raises:
            Interrupted: a signal came; the message says what is done.
        """
        if self.asked:
            raise Interrupted(f"{self.asked} after {done}: the state is saved; start again to resume")

    def _note(self, number: int, _: FrameType | None) -> None:
        self.asked = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(number, signal.SIG_DFL)
            log.warning("Ctrl-C: the state is saved at the next step or batch; a second Ctrl-C stops at once")
