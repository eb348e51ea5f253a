"""The page of `videodpo compare` in a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import PHONE, TIMEOUT, Open, wait_until
from tests.browser.test_report import deltas, part, ready, rows, times
from videodpo.runtime.settings import OmniScoreSettings
from videodpo.storage.manifests import record_json
from videodpo.tools.compare import compare

expect.set_options(timeout=TIMEOUT)


@pytest.fixture(scope="module")
def page_file(finished, tmp_path_factory) -> Path:
    """Two runs with the same base clips; the second one's aligned clips are those of its base model."""
    folder = tmp_path_factory.mktemp("compare")
    first, second = folder / "first", folder / "second"
    shutil.copytree(finished.folder, first)
    settings = OmniScoreSettings(omniscore=finished._omniscore()).model_dump()
    document = {"stage": "omniscore", "run": "first", "folder": "first", "seed": 3, "code_version": "1", "weights": {}}
    record_json(first / "config" / "omniscore.json", document | {"settings": settings})
    shutil.copytree(first, second)
    compare([first, second / "round1"], folder / "page", 100)
    return folder / "page" / "index.html"


def test_clips_of_all_runs_play_in_step(open_page: Open, page_file):
    page = open_page(page_file)
    expect(page.locator("section:not([hidden]) .stage figcaption span")).to_have_text(["base", "first", "second"])
    ready(page, 3)
    wait_until(page, lambda: min(times(page)) > 0.1)


def test_menus_choose_the_compared_sides(open_page: Open, page_file):
    page = open_page(page_file)
    assert set(deltas(page)) == {0.0}  # both runs have the same clips
    part(page, "minus").select_option(label="base")
    assert deltas(page) == sorted(deltas(page), reverse=True)
    assert max(deltas(page)) > 0
    assert "minus=0" in page.url
    page.reload()
    assert max(deltas(page)) > 0


def test_scores_lead_to_the_clips_also_on_a_phone(open_page: Open, page_file):
    page = open_page(page_file, "#scores", viewport=PHONE)
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    page.get_by_role("link", name="imaging quality").click()
    assert part(page, "sort").input_value() == "imaging_quality"
    assert len(rows(page)) > 3
