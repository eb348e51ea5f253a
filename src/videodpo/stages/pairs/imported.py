"""The user's own pairs: `pairs.parquet` from `imported_pairs.parquet` and the videos, without scores."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from videodpo.config import Pairs, Reweight
from videodpo.config.errors import InputError
from videodpo.runtime.settings import PairsSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.manifests import edited_inputs
from videodpo.storage.schemas import CLIP_SIZE, PAIRS, PAIRS_REJECTED
from videodpo.storage.tables import read_rows, shard_paths, write_table

IMPORTED, WINNERS = "imported", "winners"  # column `policy`
Row = dict[str, Any]
log = logging.getLogger(__name__)


def import_pairs(snapshot: Snapshot[PairsSettings], round_folder: Path) -> None:
    """Write the user's own pairs, in the order of their source, and the rejected ones with the reason.

    A winner without a loser wins against every other sample of its prompt.

    Raises:
        InputError: no pair is left; the message counts the reasons.
    """
    run, settings = snapshot.folder, snapshot.settings
    videos = [row for path in shard_paths(round_folder / "videos") for row in read_rows(path, _COLUMNS)]
    listed = read_rows(run / "imported_pairs.parquet")
    pairs, rejected = split_pairs(listed, videos)
    if not pairs:
        counts = Counter(row["reason"] for row in rejected).most_common(3)
        listing = "; ".join(f"{count} x {reason}" for reason, count in counts)
        raise InputError(f"pairs: none of the {len(rejected)} imported pairs is left ({listing})")
    _warn_if_off_policy(pairs, str(settings.imported_for))
    weights = pair_weights_of(pairs, settings.pairs)
    rows = [
        {name: row.get(name) for name in PAIRS.names} | {"pair_id": number, "weight": float(weight)}
        for number, (row, weight) in enumerate(zip(pairs, weights, strict=True))
    ]
    lost = [{name: row[name] for name in PAIRS_REJECTED.names} for row in rejected]
    extra = edited_inputs(run / "prompts.parquet")
    for name, table, schema in (("pairs_rejected", lost, PAIRS_REJECTED), ("pairs", rows, PAIRS)):
        write_table(round_folder / f"{name}.parquet", table, schema, **snapshot.provenance, extra=extra)
    log.info("%d imported pairs, %d rejected", len(rows), len(lost))


_COLUMNS = ["video_id", "prompt_id", "status", "error", "sha256", *CLIP_SIZE]


def split_pairs(listed: Sequence[Row], videos: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Split imported pairs into usable and rejected ones; the latter have a `reason`.

    Args:
        listed: rows of `schemas.IMPORTED_PAIRS`.
        videos: rows of `schemas.VIDEOS`.
    """
    by_id = {video["video_id"]: video for video in videos}
    by_prompt: dict[str, list[str]] = defaultdict(list)
    for video in videos:
        by_prompt[video["prompt_id"]].append(video["video_id"])
    pairs: list[Row] = []
    rejected: list[Row] = []
    for pair in _with_losers(listed, by_prompt):
        reason = pair["reason"] or _fault(by_id[pair["winner_id"]], by_id[pair["loser_id"]])
        (rejected if reason else pairs).append(pair | {"reason": reason})
    return pairs, rejected


def _with_losers(listed: Sequence[Row], by_prompt: Mapping[str, Sequence[str]]) -> Iterator[Row]:
    for pair in listed:
        if pair["reason"] is None and pair["loser_id"] is None:
            others = [one for one in by_prompt[pair["prompt_id"]] if one != pair["winner_id"]]
            yield from (pair | {"loser_id": loser, "policy": WINNERS} for loser in others)
        else:
            yield pair | {"policy": IMPORTED}


def _fault(winner: Row, loser: Row) -> str | None:
    for side, video in (("winner", winner), ("loser", loser)):
        if video["status"] != "ok":
            return f"the {side} failed: {video['error']}"
    if winner["sha256"] == loser["sha256"]:
        return "winner and loser are the same clip"
    sizes = [" x ".join(str(video[name]) for name in CLIP_SIZE) for video in (winner, loser)]
    return None if sizes[0] == sizes[1] else f"the winner has {sizes[0]}, the loser {sizes[1]}"


def pair_weights_of(pairs: Sequence[Row], settings: Pairs) -> np.ndarray:
    """Weight of each pair: the given one, else from its probability by `pairs.reweight`, else 1.

    Without a numerator, the largest probability is used, so that the most common pair has weight 1.
    """
    reweight: Reweight = settings.reweight
    probabilities = [pair["probability"] for pair in pairs if pair["probability"] is not None]
    numerator = reweight.numerator or max(probabilities, default=1.0)

    def weight(pair: Row) -> float:
        if pair["weight"] is not None:
            return float(pair["weight"])
        if pair["probability"] is None:
            return 1.0
        return float((numerator / pair["probability"]) ** reweight.exponent)

    weights = np.array([weight(pair) for pair in pairs])
    return weights / weights.mean() if reweight.normalize else weights


def _warn_if_off_policy(pairs: Sequence[Row], model: str) -> None:
    others = Counter(pair["winner_model"] or "an unknown model" for pair in pairs if pair["winner_model"] != model)
    if others:
        listing = ", ".join(f"{count} from {name}" for name, count in others.most_common(3))
        log.warning(
            "%d of %d winners were not made by this run's model, %s (%s): these pairs are off-policy, and training on "
            "them often helps less; the check off_policy of the doctor measures how far they are",
            others.total(),
            len(pairs),
            model,
            listing,
        )
