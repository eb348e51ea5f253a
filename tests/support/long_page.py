"""A page with a gallery of many rows, made of a few clips, for the browser tests and the benchmark of scrolling."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pandas as pd

from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.render import FPS, NUM_FRAMES, SIZE, render
from videodpo.stages.report.gallery import Gallery, Measure, Side, write_gallery
from videodpo.stages.report.html import page_environment, write_web_files
from videodpo.storage.files import sha256_of, write_text
from videodpo.storage.video import write_mp4

NUM_CLIPS = 24
NUM_MEASURES = 10


def write_long_page(folder: Path, num_rows: int) -> Path:
    """Write the page with all its clips; return the path of its index.html. Its view is `#runs`."""
    videos = _videos(folder.parent / "clips-of-the-run")
    rng, world = np.random.default_rng(0), random.Random(0)
    sides = [Side(label, "pair", folder.parent, videos) for label in ("winner", "loser")]
    gallery = Gallery(
        name="runs",
        noun="pairs",
        sides=sides,
        difference=(0, 1),
        measures=[Measure(f"score_{number}", "dimension") for number in range(NUM_MEASURES)],
        ids=[str(row) for row in range(num_rows)],
        prompts=[random_scene(world).caption for _ in range(num_rows)],
        video_ids=[[f"{(row + side) % NUM_CLIPS}" for row in range(num_rows)] for side in (0, 1)],
        values_SMR=rng.random((2, NUM_MEASURES, num_rows)),
        facts={"weight": rng.random(num_rows).tolist()},
    )
    facts = write_gallery(gallery, folder, num_rows)
    nothing = dict.fromkeys(("sides", "means", "columns", "differences", "figures"), ())
    template = page_environment("videodpo.stages.report").get_template("compare.html")
    page = template.render(runs=["many pairs"], clips=facts, same_noise=True, num_prompts=1, totals=True, **nothing)
    write_text(folder / "index.html", page)
    write_web_files(folder)
    return folder / "index.html"


def _videos(folder: Path) -> pd.DataFrame:
    rows = []
    for number in range(NUM_CLIPS):
        world, path = random.Random(number), folder / f"{number}.mp4"
        write_mp4(path, render(random_scene(world), world), FPS, crf=10)
        about = {"video_id": str(number), "seed": number, "fps": FPS, "num_frames": NUM_FRAMES}
        place = {"path": f"{folder.name}/{path.name}", "sha256": sha256_of(path), "height": SIZE, "width": SIZE}
        rows.append({**about, **place})
    return pd.DataFrame(rows).set_index("video_id")
