"""Configuration of a benchmark: what a run asks for, and what a suite is (prompts, groups, dimensions, formula)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from videodpo.config.errors import ConfigError
from videodpo.config.loading import read_yaml
from videodpo.config.scoring import Dimension, PillarWeights
from videodpo.config.section import Section, validate
from videodpo.config.shard_counts import heldout_shards

Arm = Literal["base", "aligned"]
_SUITES = files("videodpo.config").joinpath("suites")


class Benchmark(Section):
    """The section `evaluate.benchmark`; a name alone is its suite."""

    suite: str = "vbench"
    """`vbench`, or the path of a suite's YAML file."""
    dimensions: list[str] | None = Field(None, min_length=1)
    """Dimensions to score; null scores all. Without all of them there is no total."""
    arms: list[Arm] = Field(["base", "aligned"], min_length=1)
    """Models to score."""
    folders: dict[Arm, str] = Field(default_factory=dict)
    """Folders of finished clips by model, named `<prompt>-<number>.mp4`; models without a folder sample their clips."""
    official: bool = False
    """Also score the clips with the benchmark's own program, in its own environment, and compare the results."""
    official_results: dict[Arm, str] = Field(default_factory=dict)
    """Results that this program gave elsewhere for the same clips, by model: its `*_eval_results.json`."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, raw: Any) -> Any:
        return {"suite": raw} if isinstance(raw, str) else raw

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        if len(set(self.arms)) < len(self.arms):
            yield "arms", f"{self.arms} names a model twice"
        for arm in set(self.folders) - set(self.arms):
            yield f"folders.{arm}", f"{self.folders[arm]!r}, but arms has no {arm}"
        for arm in set(self.official_results) - set(self.arms):
            yield f"official_results.{arm}", f"{self.official_results[arm]!r}, but arms has no {arm}"

    @property
    def videos_folder(self) -> str:
        """Name of the folder of clips for the benchmark's own program: safe in a shell and in a pattern."""
        return re.sub(r"\W", "_", Path(self.suite).stem, flags=re.ASCII) + "_videos"

    @property
    def official_files(self) -> dict[str, str | None]:
        """Results of the benchmark's own program by model: a file of the user, or None for the run's own."""
        return {
            arm: self.official_results.get(arm) for arm in self.arms if self.official or arm in self.official_results
        }


class Group(Section):
    dimensions: list[str] = Field(..., min_length=1)
    """Dimensions that score the group's clips."""
    num_prompts: int = Field(..., ge=1)
    """Number of prompts of the list that belong to the group: those with one of its dimensions."""
    samples: int = Field(..., ge=1)
    """Clips per prompt."""

    @property
    def num_shards(self) -> int:
        """Number of sampling jobs per model; scoring uses as many."""
        return heldout_shards(self.num_prompts, self.samples)


class Suite(Section):
    """A benchmark: a prompt list, groups of prompts with the same dimensions, and their scale and weight."""

    module: str
    """Python module that reads the prompt list, chooses the clips that count, and has the formula."""
    prompts: str
    """Prompt list: a path, or `public:<file>`."""
    pillars: PillarWeights = PillarWeights()
    """Weights of the pillars in the total."""
    groups: dict[str, Group] = Field(..., min_length=1)
    """Groups by name."""
    dimensions: dict[str, Dimension] = Field(..., min_length=1)
    """Scorers by name, as in the configuration; one without a pillar is scored, but not part of the total."""
    published: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Published results to show next to the run's own, by model: dimensions and totals."""
    left_out: list[str] = Field([])
    """Dimensions of the total that a run does not score."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        for name, group in self.groups.items():
            if not re.fullmatch(r"\w+", name, re.ASCII):
                yield f"groups.{name}", "a name has letters, digits and `_`"
            for dimension in group.dimensions:
                if dimension not in (*self.dimensions, *self.left_out):
                    yield f"groups.{name}.dimensions", f"{dimension!r} is not among the suite's dimensions"
        for name in self.dimensions:
            if (count := sum(name in group.dimensions for group in self.groups.values())) != 1:
                yield f"dimensions.{name}", f"in {count} groups; a dimension belongs to exactly one"

    def group_of(self, dimension: str) -> str:
        """Name of the group whose clips a dimension scores."""
        return next(name for name, group in self.groups.items() if dimension in group.dimensions)

    def gates(self, group: str) -> list[str]:
        """Dimensions of a group that are not part of the total, but choose the clips that count."""
        return [name for name in self.scored(group) if not self.dimensions[name].pillar]

    def scored(self, group: str) -> list[str]:
        """Dimensions of a group that the run scores."""
        return [name for name in self.groups[group].dimensions if name in self.dimensions]

    @property
    def weighted(self) -> list[str]:
        """Dimensions that the total needs."""
        return [name for name, dimension in self.dimensions.items() if dimension.pillar]

    def restricted(self, wanted: list[str]) -> Suite:
        """The suite with the groups of the wanted dimensions only.

        A group keeps its dimensions without a pillar, because they choose the clips that count.
        """
        groups = {name: group for name, group in self.groups.items() if set(group.dimensions) & set(wanted)}
        inside = {one for group in groups.values() for one in group.dimensions}
        dimensions = {
            name: dimension
            for name, dimension in self.dimensions.items()
            if name in inside and (name in wanted or not dimension.pillar)
        }
        left_out = [name for name in self.weighted if name not in dimensions]
        return self.model_copy(update={"groups": groups, "dimensions": dimensions, "left_out": left_out})


def read_suite(name: str) -> Suite:
    """Read a suite by its name or by the path of its YAML file.

    Raises:
        ConfigError: there is no such suite, or the file is not one; the message says why.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else Path(str(_SUITES.joinpath(f"{name}.yaml")))
    if not path.is_file():
        known = ", ".join(sorted(file.name.removesuffix(".yaml") for file in _SUITES.iterdir()))
        raise ConfigError(f"evaluate.benchmark.suite: {name!r} is neither a suite ({known}) nor a YAML file")
    return validate(Suite, read_yaml(path), str(path))


def suite_of(benchmark: Benchmark) -> Suite:
    """Suite that a run asks for, with the dimensions that it wants.

    Raises:
        ConfigError: as `read_suite`; or a wanted dimension is not in the suite.
    """
    suite = read_suite(benchmark.suite)
    if benchmark.dimensions is None:
        return suite
    if unknown := sorted(set(benchmark.dimensions) - set(suite.dimensions)):
        raise ConfigError(
            f"evaluate.benchmark.dimensions: {unknown[0]!r} is not in {benchmark.suite} ({', '.join(suite.dimensions)})"
        )
    return suite.restricted(benchmark.dimensions)


def official_groups(benchmark: Benchmark) -> dict[str, str | None]:
    """Group of each dimension of the total, also of those that the run does not score; None if it has no such clips."""
    suite, groups = read_suite(benchmark.suite), suite_of(benchmark).groups
    found = {name: suite.group_of(name) for name in suite.weighted}
    return {name: group if group in groups else None for name, group in found.items()}
