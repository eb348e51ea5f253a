"""Progress of a long stage: lines in a log, a bar on a terminal."""

from __future__ import annotations

import logging
import os
import pty
import re
import subprocess
import sys
import time
from contextlib import suppress
from datetime import datetime

import pytest

from videodpo.runtime.countdown import Countdown, Logged, read_line

log = logging.getLogger("videodpo.test")


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def test_each_named_item_has_a_line_with_total_and_end(lines, monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    countdown = Countdown(log, "shard-00000", 100, "batches", done=90)
    monkeypatch.setattr(time, "monotonic", lambda: 600.0)
    countdown.add(item="batch 90")
    monkeypatch.setattr(time, "monotonic", lambda: 660.0)
    countdown.add(item="batch 91")
    assert re.fullmatch(
        r"shard-00000: batch 91 done, 92 of 100 batches; 60\.00 s each, 0:08:00 to go, ends 20\d\d-\d\d-\d\d \d\d:\d\d",
        lines()[1],
    )
    assert countdown.line(datetime(2026, 1, 1, 12)).endswith("ends 2026-01-01 12:08")


def test_a_long_item_does_not_silence_the_log(lines):
    with Countdown(log, "shard-00000", 2, "batches", seconds=0.05):
        time.sleep(0.3)
    assert len(lines()) >= 3
    assert set(lines()) == {"shard-00000: 0 of 2 batches; 0:00:00 so far"}


def test_unnamed_items_are_logged_at_intervals_and_at_the_end(lines):
    with Countdown(log, "training", 3, "steps") as countdown:
        for step in range(3):
            countdown.add(note=f"loss {step}")
    assert lines() == ["training: 3 of 3 steps: loss 2"]


def test_an_error_is_not_followed_by_a_line_about_the_end(lines):
    countdown = Countdown(log, "training", 3, "steps")
    with suppress(ValueError), countdown:
        countdown.add()
        raise ValueError
    assert lines() == []


def test_log_lines_can_be_read_back(lines):
    countdown = Countdown(log, "shard-00000", 100, "micro-batches", done=90)
    countdown.add(item="micro-batch 91")
    countdown.add(item="micro-batch 92")
    countdown.add(8, note="loss 0.5: 3 of 4 pairs")
    each = countdown.line(datetime(2026, 1, 1))
    found = [read_line(line) for line in [*lines(), f"shard-00000: {each}"]]
    assert found[0] == Logged(91, 100, "micro-batches", found[0].each)
    assert found[1].each is not None
    assert found[2] == Logged(100, 100, "micro-batches", None)
    assert read_line("dimension: 3 of 10 clips failed") is None
    assert read_line("training from step 3 of 10, beta 5") is None


STAGE = """
import logging, warnings
from videodpo.runtime.countdown import Countdown
from videodpo.runtime.logs import set_up_logs
set_up_logs(is_stage=True)
log = logging.getLogger("videodpo.test")
with Countdown(log, "training", 3, "steps") as countdown:
    for step in range(3):
        countdown.add(item=f"step {step}", note="[bold]loss[/bold]")
        log.warning("a warning")
"""


def run_on_terminal(tmp_path, *, stderr_to_log: bool, **environment: str) -> tuple[str, str]:
    """What a stage writes to the terminal and to its log."""
    terminal, inside = pty.openpty()
    path = tmp_path / "stage.log"
    with open(path, "w") as file:
        stage = subprocess.Popen(
            [sys.executable, "-c", STAGE],
            stdin=inside,
            stdout=inside,
            stderr=file if stderr_to_log else inside,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "120"} | environment,
        )
    os.close(inside)
    shown = b""
    with suppress(OSError):  # raised at the end of the output of a pseudo-terminal
        while part := os.read(terminal, 4096):
            shown += part
    os.close(terminal)
    assert stage.wait() == 0
    return shown.decode(), path.read_text()


def test_a_terminal_shows_a_bar_and_warnings_above_it(tmp_path):
    shown, _ = run_on_terminal(tmp_path, stderr_to_log=False)
    assert "━" in shown
    assert "100%" in shown
    assert "3 of 3 steps: [bold]loss[/bold]" in shown
    assert "INFO" not in shown
    erased = r"\x1b\[2K"  # the bar, before a line takes its place
    assert len(re.findall(rf"{erased}\S+ \S+ WARNING videodpo.test: a warning\r\n", shown)) == 3


@pytest.mark.parametrize(
    ("stderr_to_log", "environment"), [(True, {"FORCE_COLOR": "1", "TTY_COMPATIBLE": "1"}), (False, {"TERM": "dumb"})]
)
def test_a_log_and_a_terminal_that_cannot_redraw_get_lines(tmp_path, stderr_to_log, environment):
    shown, logged = run_on_terminal(tmp_path, stderr_to_log=stderr_to_log, **environment)
    said = logged if stderr_to_log else shown
    assert "INFO videodpo.test: training: step 2 done, 3 of 3 steps: [bold]loss[/bold]" in said
    assert "━" not in shown + logged
    assert "\x1b" not in shown + logged
