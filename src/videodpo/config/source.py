"""Configuration of a source: prompts, the user's own clips, or the user's own preference pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from videodpo.config.section import Real, Section

HUB_PREFIX = "hub:"  # weights or data sets fetched by id; everything else is a path


class PairColumns(Section):
    """Columns of a table of pairs."""

    prompt: str = "prompt"
    """Column that contains the prompt."""
    winner: str = "winner"
    """Column with the path of the preferred clip; not used with `votes` or `ratings`."""
    loser: str = "loser"
    """Column with the path of the other clip; not used with `votes` or `ratings`."""
    weight: str | None = None
    """Column with the weight of a pair in the loss; null uses the column `weight` if there is one, else 1."""
    probability: str | None = None
    """Column with the probability of a pair's scores, from which `pairs.reweight` computes the weights; null: none."""
    label_source: str | None = None
    """Column that says who labelled a pair; null uses `label_source` if there is one, else the text `imported`."""
    winner_model: str | None = None
    """Column with the model that made the winner; null uses `winner_model` if there is one, else it is unknown."""
    clip_a: str | None = None
    """Column with the path of clip A; required with `votes`."""
    clip_b: str | None = None
    """Column with the path of clip B; required with `votes`."""
    votes: dict[str, Real] = Field(default_factory=dict)
    """Columns with the votes `A`, `B` or `same`, each with its weight. The clip with the larger sum wins."""
    clip: str | None = None
    """Column with the path of the rated clip; required with `ratings`."""
    ratings: dict[str, Real] = Field(default_factory=dict)
    """Columns with ratings of one clip per row, each with its weight; below 0 where a lower rating is better. Clips of
    the same prompt are paired, and the larger sum wins."""
    rated_pairs: Literal["best_worst", "all"] = "best_worst"
    """With `ratings`: one pair per prompt, its best against its worst clip, or all pairs of its clips."""
    clip_suffix: str = ""
    """Text added to each path, such as `.mp4` for a column of ids."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        if self.votes and self.ratings:
            yield "ratings", "give either votes or ratings"
        for key, table in (("clip_a", "votes"), ("clip_b", "votes"), ("clip", "ratings")):
            if getattr(self, table) and getattr(self, key) is None:
                yield key, f"missing; {table} needs the column of each clip"
            if not getattr(self, table) and getattr(self, key) is not None:
                yield key, f"{getattr(self, key)!r} has no effect without {table}"
        if not self.ratings and self.rated_pairs != "best_worst":
            yield "rated_pairs", f"{self.rated_pairs!r} has no effect without ratings"
        yield from (
            (f"votes.{name}", f"{weight:g} is not above 0") for name, weight in self.votes.items() if weight <= 0
        )
        yield from (
            (f"ratings.{name}", "0 has no effect; leave the column out")
            for name, weight in self.ratings.items()
            if weight == 0
        )


class Source(Section):
    kind: Literal[
        "text", "jsonl", "csv", "parquet", "vidprom", "huggingface", "clips", "pairs", "winners", "demo_world"
    ]
    """Type of the source: prompts; `clips`, your own videos; `pairs`, your own preference pairs; `winners`, your own
    videos that win against samples of the model."""
    path: str | None = None
    """File; for `pairs` and huggingface also a folder; for these and vidprom also `hub:<organisation>/<name>@<commit>`;
    not used by `demo_world`."""
    column: str = "prompt"
    """Column or JSON key that contains the prompt; `pairs` uses `columns` instead."""
    name: str | None = None
    """Configuration (subset) of a Hugging Face data set; null if the data set has only one, or a default."""
    split: str = "train"
    """Split of a Hugging Face data set."""
    max_toxicity: Real = Field(0.2, ge=0, le=1)
    """VidProM: rows are dropped if any of their six toxicity probabilities is above this value."""
    # At its default, either key is left out of the settings snapshot, so that runs from before it existed stay valid.
    columns: PairColumns = Field(PairColumns(), exclude_if=lambda value: value == PairColumns())
    """Names of the columns of a table of pairs; docs/own-pairs.md explains them."""
    clips: str | None = Field(None, exclude_if=lambda value: value is None)
    """Folder that the paths of clips are relative to; null uses the folder of the list."""

    @property
    def is_on_hub(self) -> bool:
        return self.path is not None and self.path.startswith(HUB_PREFIX)

    @property
    def has_clips(self) -> bool:
        """True if the source names the user's own clips."""
        return self.kind in ("clips", "pairs", "winners")

    @property
    def has_pairs(self) -> bool:
        """True if the source says which clip wins, so that the training clips are not scored."""
        return self.kind in ("pairs", "winners")

    @property
    def samples_nothing(self) -> bool:
        """True if all training clips are the user's own."""
        return self.kind in ("clips", "pairs")

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        def no_effect(value: object) -> str:
            return f"{value!r} has no effect on the kind {self.kind!r}; leave it out"

        if self.kind != "demo_world" and not self.path:
            yield "path", f"missing; the kind {self.kind!r} needs one"
        if self.name is not None and self.kind not in ("huggingface", "pairs"):
            yield "name", no_effect(self.name)
        if self.kind != "pairs" and self.columns != PairColumns():
            yield "columns", f"has no effect on the kind {self.kind!r}; use column, or the kind 'pairs'"
        if self.kind == "pairs" and self.column != "prompt":
            yield "column", f"{self.column!r} has no effect on the kind 'pairs'; use columns.prompt"
        if self.clips is not None and not self.has_clips:
            yield "clips", no_effect(self.clips)
        if self.kind == "pairs" and self.is_on_hub and self.clips is None:
            yield "clips", "missing; a data set on the hub needs the folder that has its clips"
