"""A real headless Chromium, and the pages that it opens from the disk, as a reader does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.finished_round import HOSTILE, FinishedRound
from videodpo.stages.evaluate import evaluate
from videodpo.stages.omniscore import aggregate
from videodpo.stages.report import make_report
from videodpo.storage.tables import read_table

DESKTOP, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 780}
TIMEOUT = 60_000  # milliseconds; a busy machine decodes slowly

Open = Callable[..., Page]


def wait_until(page: Page, holds: Callable[[], bool]) -> None:
    """Wait for a condition. Playwright's `wait_for_function` needs `eval`, which the pages forbid."""
    for _ in range(TIMEOUT // 100):
        if holds():
            return
        page.wait_for_timeout(100)
    pytest.fail("the condition did not hold in time")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "chromium is missing: run `make test-browser` as root, or install it"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])  # tests may run as root
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """Open a file in a fresh window. After the test: no error in the console, and no request beyond the disk."""
    faults: list[str] = []
    contexts = []

    def opened(file: Path, address: str = "", **options: Any) -> Page:
        context = browser.new_context(**({"viewport": DESKTOP} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("console", lambda message: faults.append(f"console: {message.type} {message.text}"))
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}") or dialog.dismiss())
        page.on("request", lambda request: request.url.startswith("file:") or faults.append(request.url))
        page.goto(f"{file.as_uri()}{address}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRound:
    """A round with a hostile prompt among the training and the held-out prompts, up to its report."""
    run = FinishedRound(tmp_path_factory.mktemp("pages") / "run", num_train=6, num_heldout=3)
    run.prompts[-1]["prompt"] = HOSTILE + " again"
    run.write()
    aggregate(run.omniscore_snapshot(), run.round)
    run.write_training(read_table(run.round / "omniscore.parquet"))
    evaluate(run.evaluate_snapshot(), run.round)
    make_report(run.report_snapshot(num_pairs=5, num_comparisons=100), run.round)
    return run


@pytest.fixture(scope="session")
def report(finished: FinishedRound) -> Path:
    return finished.round / "report" / "index.html"
