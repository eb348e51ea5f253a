"""Galleries: rows of clips side by side with their scores, written as columns that the page's script reads.

Legend: S sides (clips of a row), M measures, R rows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from videodpo.stages.report.clips import ClipFolder, even_spread
from videodpo.storage.files import write_text

MAX_LISTED = 20_000
"""Rows of a gallery. The file of 20,000 rows with ten measures has 6 MB; a browser reads it in a second."""


@dataclass(frozen=True)
class Side:
    """Where the clips of one side come from."""

    label: str
    arm: str
    """For the names of the clips' files."""
    run_folder: Path
    videos: pd.DataFrame
    """A videos table, indexed by video_id."""

    def rows(self, video_ids: Sequence[str]) -> list[dict[str, Any]]:
        """Rows of some clips, in this order."""
        table = self.videos.loc[list(video_ids)].reset_index()
        return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]

    def add_to(self, clips: ClipFolder, row: dict[str, Any]) -> str | None:
        """Add the clip of a row to the page's folder, as `ClipFolder.add`."""
        return clips.add(self.run_folder, self.arm, row)


@dataclass(frozen=True)
class Measure:
    """A score or statistic of each clip, and its kind (`total`, `pillar`, `dimension`, `judge`, `appearance`...)."""

    name: str
    kind: str


@dataclass(frozen=True)
class Gallery:
    """All rows of a gallery, in the order of the table that they come from."""

    name: str
    """Name of the view, and of its file."""
    noun: str
    """What a row is, in the plural."""
    sides: Sequence[Side]
    difference: tuple[int, int]
    """The difference of a measure is that of these two sides, the first minus the second."""
    measures: Sequence[Measure]
    """The first one ranks the rows when clips are chosen."""
    ids: Sequence[str]
    prompts: Sequence[str]
    video_ids: Sequence[Sequence[str]]
    """[S][R]"""
    values_SMR: np.ndarray
    """NaN where a clip has no value."""
    facts: Mapping[str, Sequence[Any]]
    """Further columns, numbers or text, [R] each."""


def write_gallery(gallery: Gallery, folder: Path, num_clips: int) -> dict[str, Any]:
    """Write `data/<name>.js` and the clips of some rows.

    The rows are ranked by the difference of the first measure. Those with clips are at equal distances in this ranking,
    including the first and the last; so are the listed rows, if there are more than `MAX_LISTED`.

    Args:
        gallery: the rows.
        folder: folder of the page.
        num_clips: maximum number of rows with clips.

    Returns:
        Facts for the page: `noun`, `total`, `listed` and `with_clips`.
    """
    plus, minus = gallery.difference
    ranking = np.argsort(-(gallery.values_SMR[plus, 0] - gallery.values_SMR[minus, 0]), kind="stable").tolist()
    listed = sorted(even_spread(ranking, MAX_LISTED))
    kept = set(listed)
    chosen = set(even_spread([row for row in ranking if row in kept], num_clips))
    clips = ClipFolder(folder / "clips")
    sides = zip(gallery.sides, gallery.video_ids, strict=True)
    shown = [side.rows([video_ids[row] for row in listed]) for side, video_ids in sides]
    files = [
        [side.add_to(clips, video) if row in chosen else None for row, video in zip(listed, videos, strict=True)]
        for side, videos in zip(gallery.sides, shown, strict=True)
    ]
    columns = {
        "noun": gallery.noun,
        "total": len(gallery.ids),
        "sides": [side.label for side in gallery.sides],
        "difference": list(gallery.difference),
        "measures": [{"name": measure.name, "kind": measure.kind} for measure in gallery.measures],
        "ids": [gallery.ids[row] for row in listed],
        "prompts": [gallery.prompts[row] for row in listed],
        "facts": {name: [_plain(values[row]) for row in listed] for name, values in gallery.facts.items()},
        "clips": files,
        "seeds": [[str(video["seed"]) for video in videos] for videos in shown],  # JavaScript would round numbers
        **{name: [_plain(video[name]) for video in shown[0]] for name in ("width", "height", "fps")},
        "values": [
            [list(map(_plain, values_R)) for values_R in side_MR] for side_MR in gallery.values_SMR[..., listed]
        ],
    }
    text = json.dumps(columns, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    write_text(folder / "data" / f"{gallery.name}.js", f'(window.galleries ??= {{}})["{gallery.name}"] = {text};\n')
    return {"noun": gallery.noun, "total": len(gallery.ids), "listed": len(listed), "with_clips": len(chosen)}


def samples(gallery: Gallery, folder: Path, num_clips: int, *, count: int = 3) -> list[dict[str, Any]]:
    """A few of the rows with clips, for a first look: from the largest to the smallest difference.

    Args:
        gallery, folder, num_clips: as for `write_gallery`.
        count: number of rows.
    """
    plus, minus = gallery.difference
    deltas_R = gallery.values_SMR[plus, 0] - gallery.values_SMR[minus, 0]
    ranking = even_spread(np.argsort(-deltas_R, kind="stable").tolist(), num_clips)
    clips = ClipFolder(folder / "clips")
    found = []
    for row in even_spread(ranking, count):
        videos = [side.rows([ids[row]])[0] for side, ids in zip(gallery.sides, gallery.video_ids, strict=True)]
        sides = [
            {"label": side.label, "file": side.add_to(clips, video), "score": float(value)}
            for side, video, value in zip(gallery.sides, videos, gallery.values_SMR[:, 0, row], strict=True)
        ]
        delta = float(deltas_R[row])
        direction = "up" if delta > 0 else "down" if delta < 0 else "even"
        about = {"id": gallery.ids[row], "prompt": gallery.prompts[row], "delta": delta, "direction": direction}
        found.append({**about, "sides": sides, "width": int(videos[0]["width"]), "height": int(videos[0]["height"])})
    return found


def looked_up(table: pd.DataFrame, keys: Sequence[Any], columns: Sequence[str]) -> np.ndarray:
    """Values of some rows of a table, [columns, keys]; NaN for keys and columns that it lacks."""
    found: np.ndarray = table.reindex(index=pd.Index(keys), columns=list(columns)).to_numpy(np.float64, copy=True).T
    return found


def _plain(value: Any) -> Any:
    """A value for JSON: numbers with six significant digits, which is more than a page shows; None for NaN."""
    if isinstance(value, str | int):
        return value
    return float(f"{value:.6g}") if np.isfinite(value) else None
