"""Pairs decided by the votes of people: one voice per rater, then the majority of the raters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from videodpo.preference.candidates import Candidates, Videos
from videodpo.preference.filters import KEPT
from videodpo.storage.schemas import PAIRS_REJECTED

TIE = "labels: a tie"
NO_MAJORITY = "labels: no majority among the raters"
NOT_COUNTED = "labels: a clip has no OmniScore, or first_samples or prompt_share leaves it out"
SKIP = "skip"


def voices(votes: pd.DataFrame) -> pd.DataFrame:
    """Reduce the votes of each rater on each pair to one voice.

    Args:
        votes: `prompt_id`, `left_id`, `right_id`, `choice` and `rater`; skipped pairs do not count.

    Returns:
        `prompt_id`, `first_id` and `second_id` (the ids of the pair in alphabetical order), `rater`, and `voice`: 1 for
        the first clip, -1 for the second, 0 for a tie. A rater whose votes on a pair differ has no preference: 0.
    """
    votes = votes[votes["choice"] != SKIP]
    swapped = votes["left_id"] > votes["right_id"]
    value = votes["choice"].map({"left": 1, "right": -1, "tie": 0}).astype(int)
    ordered = votes.assign(
        first_id=votes["left_id"].where(~swapped, votes["right_id"]),
        second_id=votes["right_id"].where(~swapped, votes["left_id"]),
        voice=value.where(~swapped, -value),
    )
    keys = ["prompt_id", "first_id", "second_id", "rater"]
    grouped = ordered.groupby(keys, sort=True)["voice"].agg(["min", "max"]).reset_index()
    agree = grouped["min"] == grouped["max"]
    return grouped[keys].assign(voice=grouped["min"].where(agree, 0))


def majority(votes: pd.DataFrame) -> pd.DataFrame:
    """Decide each pair: the winner has more than half of the voices, where ties count as voices.

    Args:
        votes: as for `voices`.

    Returns:
        `prompt_id`, `winner_id`, `loser_id` and `reason`, one row per pair. The reason is "" for decided pairs; the
        others have their clips in alphabetical order.
    """
    each = voices(votes)
    counts = pd.DataFrame({name: each["voice"] == value for name, value in (("a", 1), ("b", -1), ("tie", 0))})
    pairs = counts.groupby([each[key] for key in ("prompt_id", "first_id", "second_id")]).sum().reset_index()
    half = pairs[["a", "b", "tie"]].sum(axis=1) / 2
    swapped = pairs["b"] > half
    reason = np.select([(pairs["a"] > half) | swapped, pairs["tie"] > half], ["", TIE], NO_MAJORITY)
    return pd.DataFrame(
        {
            "prompt_id": pairs["prompt_id"],
            "winner_id": pairs["first_id"].where(~swapped, pairs["second_id"]),
            "loser_id": pairs["second_id"].where(~swapped, pairs["first_id"]),
            "reason": reason,
        }
    )


class LabelledPairs:
    """Pairs that people voted on, as rows of a table of videos."""

    def __init__(self, videos: Videos, votes: pd.DataFrame) -> None:
        """Decide the pairs.

        Args:
            videos: the videos that count.
            votes: as for `voices`.
        """
        decided = majority(votes)
        ids = videos.table["video_id"]
        rows = {side: pc.index_in(pa.array(decided[side], pa.string()), ids) for side in ("winner_id", "loser_id")}
        found = pc.and_(*(column.is_valid() for column in rows.values())).to_numpy(zero_copy_only=False)
        self._winners, self._losers = (column.filter(pa.array(found)).to_numpy() for column in rows.values())
        self._reasons: list[str] = decided["reason"][found].tolist()
        self.not_counted = _not_counted(decided[~found])
        self._prompts = np.searchsorted(videos.starts, self._winners, side="right") - 1

    def without_votes(self, candidates: Candidates) -> Candidates:
        """Leave out the candidates that people voted on."""
        rest = ~np.isin(_keys(candidates.winners, candidates.losers), _keys(self._winners, self._losers))
        return Candidates(
            candidates.winners[rest], candidates.losers[rest], candidates.prompts[rest], candidates.lacking
        )

    def merged_with(
        self, candidates: Candidates, found: NDArray[np.int64], reasons: list[str]
    ) -> tuple[Candidates, NDArray[np.int64], list[str], NDArray[np.bool_]]:
        """Merge with the candidates that the OmniScore decides, in the order of the prompts.

        Args:
            candidates: pairs without votes.
            found, reasons: result of `filters.rejections` for them.

        Returns:
            All candidates, the index of each one's reason, the reasons, and whether people decided it.
        """
        mine = [KEPT if not reason else len(reasons) + (reason == TIE) for reason in self._reasons]
        prompts = np.concatenate([candidates.prompts, self._prompts])
        order = np.argsort(prompts, kind="stable")
        merged = replace(
            candidates,
            winners=np.concatenate([candidates.winners, self._winners])[order],
            losers=np.concatenate([candidates.losers, self._losers])[order],
            prompts=prompts[order],
        )
        is_human = np.arange(len(order)) >= len(candidates.winners)
        all_found = np.concatenate([found, np.array(mine, dtype=found.dtype)])[order]
        return merged, all_found, [*reasons, NO_MAJORITY, TIE], is_human[order]


def _keys(winners: NDArray[np.int64], losers: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for each pair of rows, whichever of them wins."""
    return (np.minimum(winners, losers).astype(np.int64) << 32) + np.maximum(winners, losers)


def _not_counted(pairs: pd.DataFrame) -> pa.Table:
    columns = pairs[["prompt_id", "winner_id", "loser_id"]].assign(reason=NOT_COUNTED)
    return pa.Table.from_pandas(columns, schema=PAIRS_REJECTED, preserve_index=False)
