"""The format of the pairs that VideoDPO's authors released: `pair.json`, `metadata.json` and two folders of clips."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from videodpo.tools.export.pairs import ExportedPairs


def write_videodpo(pairs: ExportedPairs, folder: Path) -> None:
    """Write the pairs. The clip numbers 2 k and 2 k + 1 are the winner and the loser of pair k.

    `score` is the probability of the pair's scores, from which the released loader computes the weight. Pairs without
    a probability have none. Weights themselves have no place in this format.
    """
    listed: list[dict[str, Any]] = []
    clips: list[dict[str, Any]] = []
    for number, pair in enumerate(pairs.rows):
        entry = {"video1": 2 * number, "video2": 2 * number + 1, "frame_caption": pair.prompt, "label": 0}
        score = pair.row["probability"]
        listed.append(entry if score is None else entry | {"score": score})
        for place, clip in (("winvideos", pair.winner), ("losevideos", pair.loser)):
            path = f"{place}/{number:06d}.mp4"
            (folder / place).mkdir(exist_ok=True)
            (folder / path).write_bytes(clip.content())
            basic = {"clip_path": path, "clip_duration": clip.seconds}
            clips.append({"basic": basic, "misc": {"frame_caption": [pair.prompt]}})
    for name, value in (("pair.json", listed), ("metadata.json", clips)):
        text = json.dumps(value, indent=4, ensure_ascii=False, allow_nan=False)
        (folder / name).write_text(f"{text}\n", encoding="utf-8")
