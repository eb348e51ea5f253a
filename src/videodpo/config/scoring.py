"""Configuration of scoring: the dimensions, their aggregation to the OmniScore, and the choice of pairs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, model_validator

from videodpo.config.section import PositiveReal, Real, Section, without_nulls


class OmniDimension(Section):
    pillar: Literal["quality", "semantic"]
    """Pillar that the dimension belongs to."""
    min: Real
    """Raw score that is scaled to 0."""
    max: Real
    """Raw score that is scaled to 1."""
    weight: Real = Field(1.0, ge=0)
    """Weight within the pillar."""
    # At its default, the key is omitted from the settings snapshot, so that older runs are not re-run.
    saturate: bool = Field(False, exclude_if=lambda value: not value)
    """Clip the scaled score to [0, 1], so that raw scores beyond `max` add nothing."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        yield from _empty_range(self.min, self.max)


class Dimension(Section):
    # At its default, the key is left out of the settings snapshot, so that runs from before it existed stay valid.
    scorer: str | None = Field(None, exclude_if=lambda value: value is None)
    """Scorer of the dimension, if the dimension has a name of its own; null is the scorer of the same name."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the scorer; docs/scorers.md lists them."""
    pillar: Literal["quality", "semantic"] | None = None
    """Pillar of the OmniScore that the dimension belongs to; with null, it is scored and reported, but not counted."""
    min: Real | None = None
    """Raw score that is scaled to 0; required with a pillar."""
    max: Real | None = None
    """Raw score that is scaled to 1; required with a pillar."""
    weight: Real = Field(1.0, ge=0)
    """Weight within the pillar."""
    saturate: bool = Field(False, exclude_if=lambda value: not value)
    """Clip the scaled score to [0, 1], so that raw scores beyond `max` add nothing."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        if self.pillar is None:
            return
        if self.min is not None and self.max is not None:
            yield from _empty_range(self.min, self.max)
        yield from ((key, "missing; a pillar needs it") for key in ("min", "max") if getattr(self, key) is None)


def wrong_names(names: Mapping[str, str], reserved: Collection[str]) -> Iterator[tuple[str, str]]:
    """Keys of names that cannot be those of a dimension: the rules' wildcard must match, and no total has the name."""
    for key, name in names.items():
        if not re.fullmatch(r"[A-Za-z0-9_]+", name) or name in reserved:
            yield key, f"the name may have letters, digits and _, and none of {', '.join(sorted(reserved))}"


def _empty_range(low: float, high: float) -> Iterator[tuple[str, str]]:
    if low >= high:
        yield "min", f"{low} is not below max, {high}"


class PillarWeights(Section):
    quality: Real = Field(4.0, ge=0)
    """Weight of the quality pillar."""
    semantic: Real = Field(1.0, ge=0)
    """Weight of the semantic pillar."""


class Pillars(Section):
    """The section `omniscore`."""

    pillars: PillarWeights = PillarWeights()
    """Weights of the two pillars; the OmniScore is their weighted mean."""
    clip: bool = False
    """Clip scaled scores to [0, 1]; VBench does not."""
    # At its default, the key is left out of the settings snapshot, so that runs from before it existed stay valid.
    scaling: Literal["range", "prompt_group"] = Field("range", exclude_if=lambda value: value == "range")
    """`range` compares scores by `min` and `max`; `prompt_group` also standardises them over the clips of each prompt
    before they are weighted, for the choice of the pairs. The evaluation always uses the range."""


class OmniScore(Pillars):
    """Settings that determine the OmniScore of a video from its raw scores."""

    dimensions: dict[str, OmniDimension] = Field(..., min_length=1)
    """Scale and weight of each dimension."""

    @property
    def by_range(self) -> OmniScore:
        """The same settings with scores scaled by their range, by which different prompts and models compare."""
        return self.model_copy(update={"scaling": "range"})

    @property
    def weighted_pillars(self) -> list[str]:
        """Names of the pillars with a weight above 0. The others have a column in the table, but are shown nowhere."""
        return [name for name, weight in self.pillars.model_dump().items() if weight > 0]

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        yield from pillar_disagreements(self.pillars, self.dimensions)


def pillar_disagreements(
    pillars: PillarWeights, dimensions: Mapping[str, OmniDimension] | Mapping[str, Dimension]
) -> Iterator[tuple[str, str]]:
    """Keys of `omniscore` whose weight has no effect, each with the reason."""
    total = 0.0
    for pillar, weight in (("quality", pillars.quality), ("semantic", pillars.semantic)):
        inside = sum(dimension.weight for dimension in dimensions.values() if dimension.pillar == pillar)
        if weight > 0 and inside == 0:
            yield f"pillars.{pillar}", f"{weight}, but no dimension with a weight is in this pillar"
        total += weight
    if total == 0:
        yield "pillars", "both have weight 0; at least one must be above 0"


class Filters(Section):
    min_gap: Real = Field(0.0, ge=0)
    """Pairs with a smaller OmniScore gap are rejected."""
    drop_percentile: Real = Field(0.0, ge=0, lt=100)
    """Percentage of the pairs that are rejected: those with the smallest gaps."""
    no_regression: dict[str, Real] = Field(default_factory=dict)
    """Per dimension: largest amount, in scaled units, by which the winner may score below the loser; null removes an
    entry of the base configuration."""
    min_motion: Real | None = None
    """Winners with a smaller raw score of `motion_dimension` are rejected."""
    motion_dimension: str | None = None
    """Dimension that min_motion applies to."""

    @model_validator(mode="before")
    @classmethod
    def _drop_removed(cls, raw: Any) -> Any:
        return without_nulls(raw, "no_regression")

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        if (self.min_motion is None) != (self.motion_dimension is None):
            absent = "min_motion" if self.min_motion is None else "motion_dimension"
            yield absent, "missing; set both min_motion and motion_dimension, or neither"


class Reweight(Section):
    exponent: Real = Field(0.72, ge=0)
    """Alpha in the paper; 0 is plain DPO."""
    numerator: PositiveReal | None = None
    """Beta in the paper; null uses the share of the largest bin."""
    bin_width: Real = Field(0.01, gt=0)
    """Bin width of the histogram, in units of the OmniScore."""
    normalize: bool = False
    """Divide the weights by their mean."""


class PairLabels(Section):
    source: Literal["omniscore", "human", "mixed"] = "omniscore"
    """Who decides which clip of a pair wins. human: the majority of the votes, and only pairs with votes are used.
    mixed: the votes where a pair has some, and the OmniScore elsewhere."""
    path: str | None = None
    """Table of votes, written by `videodpo labels import`; required for human and mixed."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        if self.source != "omniscore" and self.path is None:
            yield "path", f"missing; the source {self.source!r} needs one"
        if self.source == "omniscore" and self.path is not None:
            yield (
                "path",
                f"{self.path!r} has no effect with the source 'omniscore'; use human or mixed, or leave it out",
            )


class Pairs(Section):
    policy: str = Field("best_worst", pattern=r"^(best_worst|all|random|mixed_ranks|rank:[1-9]\d*-[1-9]\d*)$")
    """One of best_worst, rank:i-j (1 is best), mixed_ranks, all, random."""
    # At its default, each of these keys is omitted from the settings snapshot, so that older runs are not re-run.
    first_samples: int | None = Field(None, ge=2, exclude_if=lambda value: value is None)
    """Use only the first n samples of each prompt, so that several N share their clips; null uses all."""
    prompt_share: Real = Field(1.0, gt=0, le=1, exclude_if=lambda value: value == 1)
    """Use only this share of the prompts. A smaller share is part of a larger one with the same seed."""
    labels: PairLabels = Field(PairLabels(), exclude_if=lambda value: value == PairLabels())
    """Votes of people."""
    filters: Filters = Filters()
    """Conditions under which pairs are rejected. They do not apply to pairs that people decided."""
    reweight: Reweight = Reweight()
    """Weight of a pair in the loss: (numerator / probability of its scores) ** exponent."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        if self.policy.startswith("rank:"):
            better, worse = map(int, self.policy[5:].split("-"))
            if better >= worse:
                yield "policy", f"{self.policy!r}: two ranks are needed, the better one first: rank:1-4"
            if self.first_samples is not None and worse > self.first_samples:
                yield "first_samples", f"{self.first_samples}; policy {self.policy!r} needs at least {worse}"


def filter_disagreements(pairs: Pairs, dimensions: Collection[str]) -> Iterator[tuple[str, str]]:
    """Keys of the pair filters that name no dimension of the OmniScore, each with the reason."""
    filters = pairs.filters
    named = {f"pairs.filters.no_regression.{name}": name for name in filters.no_regression}
    if filters.motion_dimension is not None:
        named["pairs.filters.motion_dimension"] = filters.motion_dimension
    for key, name in named.items():
        if name not in dimensions:
            yield key, f"{name!r} is not among the dimensions of the OmniScore ({', '.join(sorted(dimensions))})"
