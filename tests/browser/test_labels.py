"""The page of blind labels in headless Chromium: votes by keys, resume, files of votes, and two clips in step."""

from __future__ import annotations

import json
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, TIMEOUT, Open, wait_until
from tests.support.finished_round import HOSTILE, FinishedRound
from tests.support.labels import labelled_round, page_data
from videodpo.storage.tables import read_table
from videodpo.tools.labels.page import write_page
from videodpo.tools.labels.votes import import_votes

expect.set_options(timeout=TIMEOUT)

STEPS = 8  # 3 pairs and a repeat, two questions each


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRound:
    return labelled_round(tmp_path_factory.mktemp("run"), num_train=3, num_heldout=1)


@pytest.fixture(scope="module")
def file(finished: FinishedRound, tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = tmp_path_factory.mktemp("a # b") / "my labels.html"  # characters that an address has to escape
    write_page(finished.folder, page, repeats=0.34, dimensions=["motion_amount"])
    return page


@pytest.fixture
def page(open_page: Open, file: Path) -> Page:
    return open_page(file)


def start(page: Page, rater: str) -> None:
    page.get_by_label("Your name or initials").fill(rater)
    page.keyboard.press("Enter")


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def save(page: Page, folder: Path) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name="Save votes to a file").click()
    saved = folder / download.value.suggested_filename
    download.value.save_as(saved)
    return saved


TIMES = "[...document.querySelectorAll('video')].map((clip) => clip.currentTime)"


def until(page: Page, expression: str) -> None:
    wait_until(page, lambda: bool(page.evaluate(expression)))


def test_votes_by_keys_are_saved_and_imported(page, finished, file, tmp_path):
    start(page, "Ann Ö.")
    expect(page.get_by_role("heading")).to_have_text("Which clip is better?")
    press(page, "ArrowLeft")
    expect(page.get_by_role("heading")).to_have_text("Which clip is better in motion amount?")
    press(page, "ArrowRight", "ArrowDown", "s", "S", "ArrowLeft", "ArrowLeft", "ArrowRight")
    expect(page.get_by_role("heading")).to_have_text("All pairs are done. Thank you!")
    saved = save(page, tmp_path)
    data = page_data(file)
    assert saved.name == f"votes-tiny-run-round1-{data['label_set']}-Ann_Ö..json"
    choices = [vote["choice"] for vote in json.loads(saved.read_text())["votes"]]
    assert choices == ["left", "right", "tie", "skip", "skip", "left", "left", "right"]
    import_votes([saved], finished.folder)
    table = read_table(finished.folder / "labels.parquet")
    assert (len(table), set(table.rater), table.repeat.sum()) == (STEPS, {"Ann Ö."}, 2)
    assert table.choice.value_counts().to_dict() == {"left": 3, "right": 2, "skip": 2, "tie": 1}


def test_voting_resumes_after_a_reload_for_each_rater_alone(page):
    start(page, "Ann")
    press(page, "ArrowLeft", "ArrowLeft", "ArrowDown")
    page.reload()
    start(page, "Ann")
    expect(page.locator("#count")).to_have_text(f"4 of {STEPS}, 3 done")
    page.get_by_role("button", name="Another rater").click()
    start(page, "Bob")
    expect(page.locator("#count")).to_have_text(f"1 of {STEPS}, 0 done")


def test_back_shows_the_vote_and_lets_it_be_changed(page, tmp_path):
    start(page, "Ann")
    press(page, "ArrowLeft", "ArrowRight", "Backspace")
    expect(page.locator("[data-choice=right]")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Tie").click()
    expect(page.locator("#count")).to_have_text(f"3 of {STEPS}, 2 done")
    votes = json.loads(save(page, tmp_path).read_text())["votes"]
    assert [vote["choice"] for vote in votes] == ["left", "tie"]


def test_a_saved_file_continues_in_another_browser(page, open_page, file, tmp_path):
    start(page, "Ann")
    press(page, "ArrowLeft", "ArrowLeft", "ArrowDown")
    saved = save(page, tmp_path)
    other = open_page(file)
    start(other, "Ann")
    other.set_input_files("#file", saved)
    expect(other.locator("#count")).to_have_text(f"4 of {STEPS}, 3 done")
    expect(other.get_by_role("status")).to_have_text(f"3 votes loaded from {saved.name}.")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_set": "00000000"}, "it belongs to another page (run tiny-run, round 1, page 00000000;"),
        ({"run": "other"}, "it belongs to another page (run other, round 1,"),
        ({"rater": "Bob"}, "its rater is Bob;"),
        ({"votes": [{"left": "x"}]}, "it has votes that this page does not know."),
        ({"format": "else"}, "this is not a file of votes."),
        (None, "was not loaded: "),
    ],
)
def test_a_file_of_another_page_is_refused_and_the_votes_stay(page, tmp_path, changes, message):
    start(page, "Ann")
    press(page, "ArrowLeft")
    content = json.loads(save(page, tmp_path).read_text())
    bad = tmp_path / "bad.json"
    bad.write_text("{" if changes is None else json.dumps(content | changes))
    page.set_input_files("#file", bad)
    expect(page.get_by_role("alert")).to_contain_text("bad.json was not loaded: ")
    expect(page.get_by_role("alert")).to_contain_text(message)
    expect(page.locator("#count")).to_have_text(f"2 of {STEPS}, 1 done")


def test_both_clips_play_in_step_and_share_one_scrubber(page):
    start(page, "Ann")
    until(page, f"{TIMES}[0] > 0.2")
    left, right = page.evaluate(TIMES)
    assert abs(left - right) < 0.1
    press(page, " ")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    page.locator("#scrub").fill("0.5")
    until(page, f"{TIMES}.every((time) => Math.abs(time - 0.5) < 0.01)")
    assert page.evaluate("[...document.querySelectorAll('video')].every((clip) => clip.paused)")


def test_a_hostile_prompt_is_shown_as_text(page):
    start(page, "Ann")
    for _ in range(STEPS):
        if page.locator("#prompt").inner_text() == HOSTILE:
            return
        press(page, "ArrowDown")
    pytest.fail("the prompt was not shown")


def test_missing_clips_are_explained(browser, file, tmp_path):
    lonely = Path(shutil.copy(file, tmp_path))
    page = browser.new_context().new_page()
    page.goto(lonely.as_uri())
    start(page, "Ann")
    expect(page.get_by_role("alert")).to_have_text(
        "A clip does not load: the folder my labels-clips must be next to this page."
    )
    page.context.close()


def test_the_page_fits_a_phone(open_page, file):
    page = open_page(file, viewport=PHONE)
    start(page, "Ann")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    assert all(box["height"] >= 44 for box in (one.bounding_box() for one in page.locator("button:visible").all()))


def test_the_page_works_from_a_web_server(browser, file):
    handler = partial(SimpleHTTPRequestHandler, directory=str(file.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_context().new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/my%20labels.html")
        start(page, "Ann")
        until(page, f"{TIMES}.every((time) => time > 0.1)")
        press(page, "ArrowLeft")
        page.reload()
        start(page, "Ann")
        expect(page.locator("#count")).to_have_text(f"2 of {STEPS}, 1 done")
        page.context.close()
        server.shutdown()
