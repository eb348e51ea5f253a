"""When a long job saves what it has."""

from __future__ import annotations

import time
from collections.abc import Callable

_SHARE = 0.02


class Autosave:
    """Saves after every piece of work, but where that would take more than a fiftieth of the time.

    So a kill costs one piece of work, or 50 times what a save of a large file takes.
    """

    def __init__(self, save: Callable[[], None]) -> None:
        self._save = save
        self._ended = time.monotonic()
        self._took = 0.0

    def __call__(self, *, at_once: bool = False) -> bool:
        """Returns whether it saved; `at_once` it does."""
        started = time.monotonic()
        if not at_once and (started - self._ended) * _SHARE < self._took:
            return False
        self._save()
        self._ended = time.monotonic()
        self._took = self._ended - started
        return True
