"""Write the page on which people compare clips side by side, without knowing which is which."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from videodpo.config.errors import InputError
from videodpo.runtime.rounds import round_folder
from videodpo.runtime.snapshot import load_formula, load_snapshot
from videodpo.stages.report.html import page_environment, web_text
from videodpo.storage.clips import read_clip
from videodpo.storage.files import atomic_path, write_text
from videodpo.storage.labels import OVERALL
from videodpo.storage.tables import read_rows
from videodpo.tools.labels.draw import Subject, draw, read_pairs


def write_page(
    run_folder: Path,
    out: Path,
    *,
    round_number: int = 1,
    subject: Subject = "pairs",
    count: int = 100,
    repeats: float = 0.1,
    dimensions: Sequence[str] = (),
    seed: int = 0,
) -> str:
    """Write the page, and copies of its clips to `<out without .html>-clips` next to it.

    The page loads nothing from elsewhere, and works from a file:// address. Names of clips are hashes, and nothing on
    the page tells which clip is the winner, or which model made it. The same arguments give the same page.

    Args:
        run_folder: <results>/<run>.
        out: path of the page; must end in .html.
        round_number: from 1.
        subject: what is compared.
        count: number of pairs.
        repeats: share of the pairs that are shown twice, from 0 to 0.5.
        dimensions: dimensions of the OmniScore with a question of their own, in addition to the overall preference.
        seed: of the draw of the pairs and their sides.

    Returns:
        One line that says what was written.

    Raises:
        InputError: the run lacks a table, a clip is damaged, a dimension is unknown, nothing can be compared, or the
            training clips of a run on own pairs are asked for.
    """
    if out.suffix != ".html":
        raise InputError(f"--out {out}: the name of a page must end in .html")
    if subject != "evaluation" and (run_folder / "imported_pairs.parquet").exists():
        raise InputError(
            f"--of {subject}: the training clips of {run_folder} are imported with their winners, and no score can be "
            "compared with votes; use --of evaluation"
        )
    known = sorted(load_formula(run_folder).dimensions)
    if unknown := [name for name in dimensions if name not in known]:
        raise InputError(f"--ask {unknown[0]}: not a dimension of the OmniScore of {run_folder} ({', '.join(known)})")
    folder = round_folder(run_folder, round_number)
    pairs = read_pairs(folder, subject, seed)
    if not pairs:
        raise InputError(f"{folder}: no two clips to compare")
    items = draw(pairs, count, repeats, seed)
    prompts = {row["prompt_id"]: row["prompt"] for row in read_rows(run_folder / "prompts.parquet")}
    clips = out.with_name(f"{out.stem}-clips")
    num_bytes = 0
    for clip in sorted({clip for sides in items for clip in sides}):
        with atomic_path(clips / f"{clip.token(seed)}.mp4") as partial:
            num_bytes += partial.write_bytes(read_clip(run_folder / clip.path, clip.sha256))
    data = {
        "run": load_snapshot(run_folder / "config" / "pairs.json", "pairs").run,
        "round": round_number,
        "of": subject,
        "seed": seed,
        "clips": clips.name,
        "questions": [OVERALL, *dict.fromkeys(dimensions)],
        "items": [
            {
                "prompt": prompts[left.prompt_id],
                "left": left.token(seed),
                "right": right.token(seed),
                "width": left.width,
                "height": left.height,
            }
            for left, right in items
        ],
    }
    # Pages with other pairs or questions keep their progress apart.
    label_set = hashlib.sha256(json.dumps(data | {"clips": ""}, sort_keys=True).encode()).hexdigest()[:8]
    page = page_environment("videodpo.tools.labels").get_template("page.html")
    write_text(out, page.render(data=data | {"label_set": label_set}, player=web_text("player.js")))
    num_pairs = min(count, len(pairs))
    return (
        f"{out}: {num_pairs} of {len(pairs)} pairs, {len(items) - num_pairs} of them twice; "
        f"its clips are in {clips} ({num_bytes / 1e6:.1f} MB)"
    )
