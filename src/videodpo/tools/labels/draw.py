"""Choose the pairs of clips that a page of blind labels shows, and the side of each clip."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from videodpo.config.errors import InputError
from videodpo.runtime.seeds import derive_seed
from videodpo.storage.labels import ARM_FOLDERS
from videodpo.storage.tables import read_rows, shard_paths

Subject: TypeAlias = Literal["pairs", "random", "evaluation"]
"""What a page compares: the pairs of the training, two random clips of each training prompt, or the base with the
aligned model on held-out prompts."""
ARMS: dict[Subject, tuple[str, ...]] = {"pairs": ("train",), "random": ("train",), "evaluation": ("base", "aligned")}


class Clip(NamedTuple):
    """One clip of a round."""

    arm: str
    video_id: str
    prompt_id: str
    path: str
    sha256: str
    num_frames: int
    height: int
    width: int

    def token(self, seed: int) -> str:
        """Name of the clip on a page: a hash that tells neither its arm nor its score, and changes with its bytes."""
        text = json.dumps([seed, self.arm, self.video_id, self.sha256])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


Sides: TypeAlias = tuple[Clip, Clip]
"""The left and the right clip."""


def read_clips(round_folder: Path, arm: str) -> dict[str, Clip]:
    """Read the clips of an arm that were sampled, by video_id.

    Raises:
        InputError: the arm has no table of videos.
    """
    names = ["status", *Clip._fields[1:]]
    rows = [row for path in shard_paths(round_folder / ARM_FOLDERS[arm]) for row in read_rows(path, names)]
    return {row["video_id"]: Clip(arm, *(row[name] for name in names[1:])) for row in rows if row["status"] == "ok"}


def read_pairs(round_folder: Path, subject: Subject, seed: int) -> list[Sides]:
    """Read all pairs of clips that a page may compare.

    Raises:
        InputError: a table is missing, or a pair names a clip that is not there.
    """
    first, *others = (read_clips(round_folder, arm) for arm in ARMS[subject])
    if subject == "random":
        groups: dict[tuple[str, int, int, int], list[Clip]] = defaultdict(list)  # a pair needs clips of one size
        for clip in sorted(first.values(), key=lambda clip: clip.token(seed)):  # a random order
            groups[clip.prompt_id, clip.num_frames, clip.height, clip.width].append(clip)
        return [(clips[0], clips[1]) for clips in groups.values() if len(clips) > 1]
    if subject == "pairs":
        rows = read_rows(round_folder / "pairs.parquet", ["winner_id", "loser_id"])
        if gone := sorted({video_id for row in rows for video_id in row.values()} - first.keys()):
            raise InputError(f"{round_folder}/pairs.parquet: no clip {gone[0]} in the round; run the stage pairs again")
        return [(first[row["winner_id"]], first[row["loser_id"]]) for row in rows]
    return [(clip, others[0][video_id]) for video_id, clip in first.items() if video_id in others[0]]


def draw(pairs: Sequence[Sides], count: int, repeats: float, seed: int) -> list[Sides]:
    """Draw pairs and put them in order, each with its left clip first.

    A smaller count gives a subset of a larger one. Hidden repeats have their sides swapped. The pairs that are repeated
    are spread over the first half, and each repeat follows half a page later.

    Args:
        pairs: result of `read_pairs`.
        count: number of different pairs; all if there are fewer.
        repeats: number of repeats, as a share of `count`, at most 0.5.
        seed: seed of the draw and of the sides.
    """

    def key(pair: Sides) -> int:
        return derive_seed(seed, "label", *sorted(clip.token(seed) for clip in pair))

    drawn = [on_sides(pair, seed) for pair in sorted(pairs, key=key)[:count]]
    half, num_repeats = len(drawn) / 2, round(repeats * len(drawn))
    placed = [(float(place), sides) for place, sides in enumerate(drawn)]
    for number in range(num_repeats):
        place = int(number * half / num_repeats)
        placed.append((place + half, drawn[place][::-1]))
    return [sides for _, sides in sorted(placed, key=lambda one: one[0])]


def on_sides(pair: Sides, seed: int) -> Sides:
    """Put one clip left, at random; the result does not depend on the order of the two."""
    first, second = sorted(pair, key=lambda clip: clip.token(seed))
    swap = derive_seed(seed, "side", first.token(seed), second.token(seed)) % 2
    return (second, first) if swap else (first, second)
