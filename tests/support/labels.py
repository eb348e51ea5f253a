"""A finished round to label, and raters that answer its page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.finished_round import FinishedRound
from videodpo.config import Pairs
from videodpo.runtime.settings import PairsSettings
from videodpo.stages.omniscore import aggregate
from videodpo.storage.manifests import record_json
from videodpo.storage.tables import read_table

Choose = Callable[[dict[str, Any], str], str]
"""Answer to a question about an item of a page."""


def labelled_round(folder: Path, **options: Any) -> FinishedRound:
    """A round with clips, scores, OmniScores and pairs, and the snapshots that `videodpo label` reads."""
    finished = FinishedRound(folder, **options).write()
    omniscore = finished.omniscore_snapshot()
    aggregate(omniscore, finished.round)
    finished.write_training(read_table(finished.round / "omniscore.parquet"))
    for stage, settings in (("omniscore", omniscore.settings), ("pairs", PairsSettings(pairs=Pairs()))):
        document = {"stage": stage, "run": "tiny-run", "folder": str(folder), "seed": 3, "code_version": "1"}
        document |= {"weights": {}, "settings": settings.model_dump()}
        record_json(folder / "config" / f"{stage}.json", document)
    return finished


def page_data(page: Path) -> dict[str, Any]:
    """What a page of labels shows."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(encoding="utf-8"))
    assert found
    data: dict[str, Any] = json.loads(found[1])
    return data


def answer(page: Path, choose: Choose, *, rater: str = "Ann", time: str = "2026-01-01T00:00:00.000Z") -> Path:
    """Answer all questions of a page, and save the votes next to it, in the form in which the page saves them."""
    data = page_data(page)
    votes = [
        {
            "left": item["left"],
            "right": item["right"],
            "question": question,
            "choice": choose(item, question),
            "seconds": 2.5,
            "time": time,
        }
        for item in data["items"]
        for question in data["questions"]
    ]
    about = {key: data[key] for key in ("run", "round", "of", "seed", "label_set")}
    file = page.with_name(f"votes-{page.stem}-{rater}.json")
    content = {"format": "videodpo votes", "version": 1, **about, "rater": rater, "votes": votes}
    file.write_text(json.dumps(content), encoding="utf-8")
    return file
