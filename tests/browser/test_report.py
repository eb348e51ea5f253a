"""The report in a browser: clips play in step, lists sort and filter, every state has a link, phones can use it."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, TIMEOUT, Open, wait_until
from tests.support.finished_round import HOSTILE
from tests.support.long_page import write_long_page

VIEWS = ["result", "before-after", "pairs", "reward-hacking", "data", "training", "record"]
STAGE = "section:not([hidden]) [data-part=stage] video"
expect.set_options(timeout=TIMEOUT)


def part(page: Page, name: str):
    return page.locator(f"section:not([hidden]) [data-part={name}]")


def rows(page: Page):
    """Rows of the visible list, in the order in which they are shown."""
    shown = page.locator("section:not([hidden]) .row:not([hidden])").all()
    return sorted(shown, key=lambda row: int(row.get_attribute("aria-posinset")))


def deltas(page: Page) -> list[float]:
    return [float(row.locator(".delta").inner_text().replace("\N{MINUS SIGN}", "-")) for row in rows(page)]


def times(page: Page) -> list[float]:
    return page.locator(STAGE).evaluate_all("videos => videos.map((video) => video.currentTime)")


def ready(page: Page, count: int = 2) -> None:
    """Wait until the clips of the selected row can be played."""
    states = "videos => videos.filter((video) => video.readyState >= 2).length"
    wait_until(page, lambda: page.locator(STAGE).evaluate_all(states) == count)


def test_winner_and_loser_play_in_step(open_page: Open, report):
    page = open_page(report, "#pairs?clips=1")
    ready(page)
    wait_until(page, lambda: min(times(page)) > 0.1)
    expect(part(page, "toggle")).to_have_text("Pause")
    part(page, "toggle").click()
    expect(part(page, "toggle")).to_have_text("Play")
    left, right = times(page)
    assert abs(left - right) < 0.3


def test_one_scrubber_moves_both_clips_and_arrows_move_one_frame(open_page: Open, report):
    page = open_page(report, "#pairs?clips=1")
    ready(page)
    part(page, "toggle").click()
    part(page, "scrubber").evaluate(SCRUB, "0.5")
    assert times(page) == pytest.approx([0.5, 0.5], abs=0.02)
    part(page, "list").focus()
    page.keyboard.press("ArrowRight")
    frame = times(page)
    assert frame[0] == frame[1] > 0.5
    page.keyboard.press("ArrowLeft")
    assert times(page)[0] == pytest.approx(frame[0] - 1 / 8, abs=0.02)


def test_sorting_changes_the_list(open_page: Open, report):
    page = open_page(report, "#pairs")
    gaps = deltas(page)
    assert len(gaps) == 6
    assert gaps == sorted(gaps, reverse=True)
    part(page, "dir").select_option("asc")
    assert deltas(page) == sorted(gaps)
    part(page, "sort").select_option("imaging_quality")
    assert deltas(page) == sorted(deltas(page)) != sorted(gaps)
    part(page, "sort").select_option("weight")
    first = rows(page)[0].locator(".meta").inner_text()
    assert first == "0 · weight 1.000"


def test_filters_and_search_change_the_list(open_page: Open, report):
    page = open_page(report, "#pairs")
    gaps = deltas(page)
    part(page, "min").fill(str((gaps[1] + gaps[2]) / 2))
    expect(part(page, "count")).to_have_text("2 of 6 pairs")
    assert deltas(page) == gaps[:2]
    part(page, "reset").click()
    part(page, "q").fill("ALERT('owned')")
    expect(part(page, "count")).to_have_text("1 of 6 pairs")
    part(page, "q").fill("no such words")
    expect(part(page, "count")).to_have_text("0 of 6 pairs")
    expect(part(page, "empty")).to_be_visible()
    part(page, "reset").click()
    part(page, "clips").check()
    expect(part(page, "count")).to_have_text("5 of 6 pairs")


def test_keys_select_play_search_and_leave(open_page: Open, report):
    page = open_page(report, "#before-after")
    ready(page)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    page.keyboard.press("k")
    assert [row.get_attribute("aria-selected") for row in rows(page)].index("true") == 1
    selected = rows(page)[1].locator(".meta").inner_text()
    assert page.url.endswith(f"#before-after?item={selected}")
    ready(page)
    before = part(page, "toggle").inner_text()
    page.keyboard.press(" ")
    expect(part(page, "toggle")).not_to_have_text(before)
    page.keyboard.press("/")
    page.keyboard.type("jk")
    expect(part(page, "q")).to_have_value("jk")
    page.keyboard.press("Escape")
    expect(part(page, "list")).to_be_focused()


def test_a_link_restores_the_view(open_page: Open, report):
    first = open_page(report, "#pairs?sort=weight&dir=asc&by=weight&min=1.15")
    part(first, "next").click()
    expect(part(first, "position")).to_have_text("2 of 4")
    address = first.url.partition("#")[2]
    assert "item=3" in address
    second = open_page(report, f"#{address}")
    expect(part(second, "position")).to_have_text("2 of 4")
    assert part(second, "sort").input_value() == "weight"
    assert part(second, "min").input_value() == "1.15"
    second.goto(f"{report.as_uri()}#pairs?sort=nonsense&item=nobody")
    expect(part(second, "position")).to_have_text("1 of 6")
    assert part(second, "sort").input_value() == "omniscore"


def test_the_panel_leads_to_the_clips_that_changed_most(open_page: Open, report):
    page = open_page(report, "#reward-hacking")
    page.get_by_role("link", name="saturation").click()
    assert part(page, "sort").input_value() == "saturation"
    assert deltas(page) == sorted(deltas(page), reverse=True)


def test_a_hostile_prompt_is_only_text(open_page: Open, report):
    page = open_page(report, "#before-after?q=again")
    expect(part(page, "full")).to_have_text(HOSTILE + " again")
    assert rows(page)[0].locator(".prompt").inner_text() == HOSTILE + " again"
    assert page.locator("script:not([src])").count() == 0


def test_bars_show_every_score_and_its_difference(open_page: Open, report):
    page = open_page(report, "#before-after")
    lines = part(page, "bars").locator("tbody tr").all()
    assert len(lines) == 8 + 6
    base, aligned, delta = (
        float(cell.inner_text().replace("\N{MINUS SIGN}", "-")) for cell in lines[0].locator(".number").all()
    )
    assert aligned - base == pytest.approx(delta, abs=2e-4)
    assert delta == pytest.approx(deltas(page)[0], abs=1e-3)


@pytest.mark.parametrize("view", VIEWS)
def test_no_view_is_wider_than_a_phone(open_page: Open, report, view):
    page = open_page(report, f"#{view}", viewport=PHONE)
    expect(page.locator(f"[data-view={view}]")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_on_a_phone_a_row_opens_its_own_page(open_page: Open, report):
    page = open_page(report, "#before-after", viewport=PHONE)
    expect(part(page, "detail")).not_to_be_visible()
    rows(page)[1].click()
    expect(part(page, "detail")).to_be_visible()
    ready(page)
    part(page, "close").click()
    expect(part(page, "detail")).not_to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_controls_have_names_and_text_has_contrast(open_page: Open, report, scheme):
    page = open_page(report, color_scheme=scheme)
    for view in VIEWS:
        page.goto(f"{report.as_uri()}#{view}")
        assert page.evaluate(UNNAMED) == []
        assert page.evaluate(FAINT) == []


# What a hand does on the scrubber: `fill` refuses range inputs with `step="any"`.
SCRUB = """(range, time) => {
  range.value = time;
  range.dispatchEvent(new Event("input"));
  range.dispatchEvent(new Event("change"));
}"""
# Visible controls without a name.
UNNAMED = """() => [...document.querySelectorAll("button, input, select, a, [role=listbox]")]
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length))
  .map((one) => one.outerHTML)"""
# Visible text whose contrast to its background is below 4.5 (WCAG 2.2, AA).
FAINT = """() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (channel) => (channel <= 10.3 ? channel / 3295 : ((channel / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const behind = (one) => {
    for (let above = one; above; above = above.parentElement) {
      const colour = parse(getComputedStyle(above).backgroundColor);
      if (colour.length === 3) return colour;
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll("body *")].filter(
    (one) => one.checkVisibility() && [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()));
  return texts.filter((one) => {
    const [a, b] = [luminance(parse(getComputedStyle(one).color)), luminance(behind(one))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
  }).map((one) => one.outerHTML.slice(0, 120));
}"""


def test_a_long_list_keeps_few_rows_and_releases_clips_out_of_sight(open_page: Open, tmp_path):
    page = open_page(write_long_page(tmp_path / "page", 10_000), "#runs")
    expect(part(page, "count")).to_have_text("10000 of 10000 pairs")
    part(page, "list").focus()
    page.keyboard.press("End")
    expect(part(page, "position")).to_have_text("10000 of 10000")
    for share in (0.2, 0.4, 0.6):
        part(page, "list").evaluate("(list, share) => { list.scrollTop = share * list.scrollHeight; }", share)
        page.wait_for_timeout(50)
    loaded = "videos => videos.every((video) => video.src)"
    wait_until(page, lambda: page.locator(".row:not([hidden]) video").evaluate_all(loaded))
    assert page.locator(".row").count() < 40
    assert page.locator(".row[hidden] video[src]").count() == 0
    assert deltas(page) == sorted(deltas(page), reverse=True)
