"""Progress lines of a long stage."""

from __future__ import annotations

import logging
import re
import time
from contextlib import suppress
from datetime import datetime

import pytest

from videodpo.runtime.countdown import Countdown

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
