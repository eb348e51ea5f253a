"""Frames per second while a list of many pairs scrolls in headless Chromium.

    PYTHONPATH=. python bench/gallery.py [--pairs 10000] [--seconds 10] --out FILE

The page has the report's own gallery. Its clips are loaded whenever scrolling slows down. Each pace is measured in a
fresh window: `reading` scrolls by some rows a second, `flicking` jumps through the list and rests in between. `idle` is
the rate of a page that does nothing, which is the most that the machine allows at that moment.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from machine import machine
from playwright.sync_api import Browser, sync_playwright

from tests.support.long_page import write_long_page
from videodpo.storage.files import write_json
from videodpo.storage.tables import commit

PACES = {"idle": 0, "reading": 400, "flicking": 20_000}  # pixels per second; a row has 88
# Scroll for some seconds, and return the times of all frames in milliseconds.
SCROLL = """async ([list, speed, seconds]) => {
  const frames = [];
  const start = performance.now();
  await new Promise((done) => {
    const step = (now) => {
      frames.push(now);
      const passed = (now - start) / 1000;
      const rests = speed > 5000 && passed % 1 > 0.6;
      if (!rests) list.scrollTop += (speed * (now - (frames.at(-2) ?? now))) / 1000;
      if (passed < seconds) requestAnimationFrame(step);
      else done();
    };
    requestAnimationFrame(step);
  });
  return frames;
}"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        page = write_long_page(Path(name) / "page", arguments.pairs)
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        paces = {pace: _measure(chromium, page, speed, arguments.seconds) for pace, speed in PACES.items()}
        answer = {
            "command": " ".join(["python", *sys.argv]),
            "commit": commit(),
            "machine": machine("cpu"),
            "browser": f"Chromium {chromium.version}, headless, no GPU",
            "load_average": load,
            "pairs": arguments.pairs,
            "paces": paces,
        }
        chromium.close()
    write_json(arguments.out, answer)
    print(json.dumps(answer, indent=2))


def _measure(chromium: Browser, file: Path, speed: float, seconds: float) -> dict[str, Any]:
    page = chromium.new_page(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    page.set_default_timeout(120_000)  # milliseconds; a busy machine starts slowly
    page.goto(f"{file.as_uri()}#runs")
    page.wait_for_selector(".row:not([hidden]) video[src] >> nth=4", state="attached")
    frames = page.evaluate(SCROLL, [page.query_selector(".list"), speed, seconds])
    gaps = sorted(after - before for before, after in pairwise(frames))
    rows = page.locator(".row").count()
    page.close()
    return {
        "frames_per_second": round(1000 * len(gaps) / (frames[-1] - frames[0]), 1),
        "median_frame_ms": round(gaps[len(gaps) // 2], 1),
        "slowest_of_100_ms": round(gaps[int(0.99 * len(gaps))], 1),
        "rows_in_the_document": rows,
        "pixels_per_second": speed,
    }


if __name__ == "__main__":
    main()
