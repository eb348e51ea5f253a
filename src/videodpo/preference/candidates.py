"""Choose candidate pairs from scored videos, before any filter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from videodpo.preference.policies import chosen, rank_pairs
from videodpo.storage.tables import starts_of_runs

SIZE = "size"  # column with frames x height x width of each video, as text


@dataclass(frozen=True)
class Videos:
    """Rows of the omniscore table, in the order of the prompts."""

    table: pa.Table
    """With the column `SIZE`, unless all videos have the same size."""

    def column(self, name: str) -> NDArray[np.float64]:
        """Values of one column, [videos]."""
        values: NDArray[np.float64] = self.table[name].to_numpy()
        return values

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Row of each prompt's first video."""
        return starts_of_runs(self.table["prompt_id"])

    @cached_property
    def groups(self) -> Groups:
        """Groups of videos with the same prompt and size, in the order of their first videos."""
        count = self.table.num_rows
        if SIZE not in self.table.column_names:
            lengths = np.diff(self.starts, append=count)
            return Groups(np.arange(count), lengths, np.arange(len(lengths)))
        prompt = np.repeat(np.arange(len(self.starts)), np.diff(self.starts, append=count))
        sizes = self.table[SIZE].combine_chunks().dictionary_encode()
        keys = prompt * len(sizes.dictionary) + sizes.indices.to_numpy()
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        order = np.argsort(first)  # order groups by their first videos
        group = np.argsort(order)[inverse]
        return Groups(np.argsort(group, kind="stable"), np.bincount(group), prompt[first[order]])


@dataclass(frozen=True)
class Groups:
    """Groups of videos that may be paired: each has one prompt and one size."""

    rows: NDArray[np.int64]
    """Rows of all videos, group by group; within a group by sample."""
    lengths: NDArray[np.int64]
    prompts: NDArray[np.int64]
    """Index of the prompt of each group."""

    @property
    def offsets(self) -> NDArray[np.int64]:
        """Index in `rows` at which each group starts."""
        return np.cumsum(self.lengths) - self.lengths


@dataclass(frozen=True)
class Candidates:
    """Pairs in the order of their groups: rows of the winning and the losing video, and the index of the prompt."""

    winners: NDArray[np.int64]
    losers: NDArray[np.int64]
    prompts: NDArray[np.int64]
    lacking: list[tuple[int, str]]
    """Groups with too few videos: the index of the prompt, and the reason."""

    @classmethod
    def none(cls) -> Candidates:
        nothing = np.zeros(0, dtype=np.int64)
        return cls(nothing, nothing, nothing, [])


def make_candidates(videos: Videos, policy: str, seed: int) -> Candidates:
    """Rank the videos of each group by OmniScore and pair them; at equal scores, the lower sample ranks higher.

    Args:
        videos: the scored videos.
        policy: as in `rank_pairs`.
        seed: seed of the run, for the policies that choose at random.
    """
    groups, scores = videos.groups, videos.column("omniscore")
    nothing = np.zeros(0, dtype=np.int64)
    winners, losers, sources, lacking = [nothing], [nothing], [nothing], [nothing]
    for length in np.unique(groups.lengths).tolist():
        alike = np.flatnonzero(groups.lengths == length)
        rows = groups.rows[groups.offsets[alike][:, None] + np.arange(length)]
        if not (pairs := np.array(rank_pairs(policy, length))).size:
            lacking.append(alike)
            continue
        ranked = np.take_along_axis(rows, np.argsort(-scores[rows], axis=1, kind="stable"), axis=1)
        prompt_ids = videos.table["prompt_id"].take(pa.array(rows[:, 0])).to_pylist() if policy == "random" else []
        picked = chosen(policy, len(pairs), alike, prompt_ids, seed)
        for side, column in ((winners, 0), (losers, 1)):
            side.append(np.take_along_axis(ranked, pairs[:, column][picked], axis=1).ravel())
        sources.append(np.repeat(alike, picked.shape[1]))
    source = np.concatenate(sources)
    order = np.argsort(source, kind="stable")
    return Candidates(
        np.concatenate(winners)[order],
        np.concatenate(losers)[order],
        groups.prompts[source[order]],
        _too_few(videos, np.sort(np.concatenate(lacking)), policy),
    )


def _too_few(videos: Videos, lacking: NDArray[np.int64], policy: str) -> list[tuple[int, str]]:
    """Prompt index of each of these groups, and the reason for its rejection."""
    groups, found = videos.groups, []
    num_sizes = np.bincount(groups.prompts)
    first_rows = groups.rows[groups.offsets[lacking]]
    for group, row in zip(lacking.tolist(), first_rows.tolist(), strict=True):
        prompt, which = int(groups.prompts[group]), ""
        if num_sizes[prompt] > 1:
            which = f" of {videos.table[SIZE][row]}"
        found.append((prompt, f"too few scored videos{which} ({groups.lengths[group]}) for policy {policy}"))
    return found
