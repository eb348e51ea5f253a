"""Choose the clips to show, and copy them next to the page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pandas as pd

from videodpo.config.errors import InputError
from videodpo.stages.report.inputs import Finished
from videodpo.storage.clips import file_of, read_clip
from videodpo.storage.files import atomic_path

PIXEL_ART = 160  # clips narrower than this (pixels) are enlarged with hard edges, without smoothing

T = TypeVar("T")


@dataclass(frozen=True)
class Shown:
    """One clip on a card; `score` is None for imported pairs, `file` if the clip is no longer in the run's folder."""

    label: str
    score: float | None
    file: str | None
    width: int
    height: int

    @property
    def pixel_art(self) -> bool:
        return self.width < PIXEL_ART


@dataclass(frozen=True)
class Card:
    """Two clips of one prompt; `facts` are lines below them, `rows` are scores per dimension (name, left, right)."""

    prompt: str
    name: str
    left: Shown
    right: Shown
    delta: float | None
    facts: list[str]
    rows: list[tuple[str, float, float]]


class ClipFolder:
    """Folder of copied clips, named after the arm and the video_id."""

    def __init__(self, folder: Path, run_folder: Path) -> None:
        self._folder, self._run_folder = folder, run_folder

    def show(self, arm: str, videos: pd.DataFrame, video_id: str, label: str, score: float | None) -> Shown:
        """Copy one clip.

        Args:
            arm: origin of the clip, for its file name.
            videos: a videos table indexed by video_id.
            label, score: shown below the clip.

        Raises:
            InputError: the video_id is not fit for a file name, or the clip is damaged.
        """
        if not re.fullmatch(r"[A-Za-z0-9_-]+", video_id):
            raise InputError(f"video_id {video_id!r}: letters, digits, - and _ only; the videos table is not ours")
        video = videos.loc[[video_id]].to_dict("records")[0]
        source, width, height = self._run_folder / str(video["path"]), int(video["width"]), int(video["height"])
        if not file_of(source).is_file():
            return Shown(label, score, None, width, height)
        name = f"{arm}-{video_id}.mp4"
        with atomic_path(self._folder / name) as partial:
            partial.write_bytes(read_clip(source, str(video["sha256"])))
        return Shown(label, score, f"{self._folder.name}/{name}", width, height)


def even_spread(ranked: Sequence[T], count: int) -> list[T]:
    """Choose `count` items at equal distances, including the first and the last; for a count of 1, the middle one."""
    if count >= len(ranked):
        return list(ranked)
    if count == 1:
        return [ranked[len(ranked) // 2]]
    return [ranked[round(k * (len(ranked) - 1) / (count - 1))] for k in range(count)]


def comparison_cards(finished: Finished, clips: ClipFolder, count: int) -> list[Card]:
    """Cards of base and aligned clips of held-out prompts, from the largest gain to the largest loss."""
    rows = finished.comparison
    totals = rows[rows.dimension == "omniscore"].sort_values(
        ["delta", "prompt_id", "sample"], ascending=[False, True, True]
    )
    base, aligned = (finished.arms[arm].set_index("video_id") for arm in ("base", "aligned"))
    cards = []
    for total in even_spread(totals.to_dict("records"), count):
        video_id = f"{total['prompt_id']}-{total['sample']}"
        of_clip = (rows.prompt_id == total["prompt_id"]) & (rows["sample"] == total["sample"])
        details = rows[of_clip & (rows.dimension != "omniscore")].to_dict("records")
        cards.append(
            Card(
                prompt=finished.texts[total["prompt_id"]],
                name=video_id,
                left=clips.show("base", base, video_id, "base", total["base"]),
                right=clips.show("aligned", aligned, video_id, "aligned", total["aligned"]),
                delta=total["delta"],
                facts=[],
                rows=[(row["dimension"], row["base"], row["aligned"]) for row in details],
            )
        )
    return cards


def pair_cards(finished: Finished, clips: ClipFolder, count: int) -> list[Card]:
    """Cards of winners and losers, from the widest gap to the narrowest."""
    pairs = finished.pairs.sort_values(["gap", "pair_id"], ascending=[False, True])
    videos = finished.videos.set_index("video_id")
    raw = finished.scores.set_index("video_id")[[f"raw_{name}" for name in finished.dimensions]]
    scores = dict(zip(raw.index, raw.to_numpy(), strict=True))
    cards = []
    for pair in even_spread(pairs.astype(object).where(pairs.notna(), None).to_dict("records"), count):
        winner, loser = pair["winner_id"], pair["loser_id"]
        scored = winner in scores and loser in scores  # imported and human-labelled pairs may have no scores
        cards.append(
            Card(
                prompt=finished.texts[pair["prompt_id"]],
                name=f"pair {pair['pair_id']}",
                left=clips.show("pair", videos, winner, "winner", pair["score_winner"]),
                right=clips.show("pair", videos, loser, "loser", pair["score_loser"]),
                delta=pair["gap"],
                facts=[f"weight {pair['weight']:.3f}", pair["policy"], f"label: {pair['label_source']}"],
                rows=list(zip(finished.dimensions, scores[winner], scores[loser], strict=True)) if scored else [],
            )
        )
    return cards
