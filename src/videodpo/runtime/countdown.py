"""Progress of a long stage: a bar on a terminal, log lines elsewhere; both show done, total and expected end."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections import deque
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS = 30.0  # longest time between two log lines
_RECENT = 50
_LINE = re.compile(
    r": (?:.* done, )?(?P<done>\d+) of (?P<total>\d+) (?P<unit>[a-z-]+)(?:$|[:;](?:.* (?P<each>\d+\.\d\d) s each, )?)"
)


class Logged(NamedTuple):
    """What a log line of a countdown says.

    Attributes:
        each: seconds per item; None if no item has finished yet.
    """

    done: int
    total: int
    unit: str
    each: float | None


def read_line(line: str) -> Logged | None:
    """Read a log line of a countdown; None for any other line."""
    found = _LINE.search(line)
    if not found:
        return None
    return Logged(
        int(found["done"]), int(found["total"]), found["unit"], float(found["each"]) if found["each"] else None
    )


class Countdown:
    """Show the progress of a stage. Inside the context, a thread repeats the line, however long one item takes.

    In a log, each named item gets its own line, so that the log lists the finished work. On a terminal, a bar takes the
    place of all lines.
    """

    def __init__(
        self, log: logging.Logger, name: str, total: int, unit: str, *, done: int = 0, seconds: float = SECONDS
    ) -> None:
        """Set up the countdown without logging anything yet.

        Args:
            log: logger of the stage.
            name: start of each line.
            total: number of items.
            unit: what the items are, in the plural.
            done: items that an earlier start finished.
            seconds: longest time between two lines.
        """
        self._log, self._name, self._total, self._unit = log, name, total, unit
        self._done, self._seconds, self._note, self._is_told = done, seconds, "", True
        self._began = self._told_at = time.monotonic()
        self._marks = deque([(done, self._began)], maxlen=_RECENT)
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="countdown", daemon=True)
        self._bar: Progress | None = None

    def __enter__(self) -> Countdown:
        if self._log.isEnabledFor(logging.INFO):  # not in the other processes of a training
            self._bar = _bar_on_terminal()
        if self._bar:
            self._seconds = 1.0
            self._bar.add_task(self._name, total=self._total, completed=self._done, line="loading")
            self._bar.start()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        if not self._is_told and kind is None:
            self._tell()
        if self._bar:
            self._bar.stop()

    def resume(self, done: int) -> None:
        """Set the number of items that an earlier start finished, if it is known only after loading."""
        with self._lock:
            self._done = done
            self._marks.clear()
            self._marks.append((done, self._began))

    def add(self, count: int = 1, *, item: str = "", note: str = "") -> None:
        """Count finished items.

        Args:
            count: number of newly finished items.
            item: name of the finished item; it is logged at once.
            note: the current state; every later line includes it.
        """
        with self._lock:
            self._done += count
            self._note, self._is_told = note, False
            self._marks.append((self._done, time.monotonic()))
            if len(self._marks) == 3 and self._marks[0][1] == self._began:
                self._marks.popleft()  # the first item's time includes loading
        if item or self._bar:
            self._tell(f"{item} done, ")

    def line(self, now: datetime) -> str:
        """Text with the done and total counts, the note, the seconds per item and the expected end."""
        text = f"{self._done} of {self._total} {self._unit}{self._note and f': {self._note}'}"
        (first, begin), (last, end) = self._marks[0], self._marks[-1]
        if self._done >= self._total:
            return text
        if first == last:
            return f"{text}; {timedelta(seconds=round(time.monotonic() - begin))} so far"
        each = (end - begin) / (last - first)
        left = timedelta(seconds=round(each * (self._total - self._done)))
        return f"{text}; {each:.2f} s each, {left} to go, ends {now + left:%Y-%m-%d %H:%M}"

    def _repeat(self) -> None:
        while not self._ended.wait(max(0.0, self._told_at + self._seconds - time.monotonic())):
            if time.monotonic() - self._told_at >= self._seconds:
                self._tell()

    def _tell(self, item: str = "") -> None:
        with self._lock:
            self._told_at, self._is_told = time.monotonic(), True
            line = self.line(datetime.now())
            if self._bar:
                self._bar.update(self._bar.task_ids[0], completed=self._done, line=line)
            else:
                self._log.info("%s: %s%s", self._name, item, line)


def _bar_on_terminal() -> Progress | None:
    """Make a progress bar with a text; None if stderr is not a terminal that can redraw a line."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return None
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TaskProgressColumn(),
        TextColumn("{task.fields[line]}", markup=False, table_column=Column(overflow="fold")),  # wraps if it is long
    )
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=2)
