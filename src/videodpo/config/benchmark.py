"""Configuration of a benchmark: what a run asks for, and what a suite is (prompts, groups, dimensions, formula)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from videodpo.config.errors import ConfigError
from videodpo.config.loading import read_yaml
from videodpo.config.scoring import Dimension, PillarWeights, wrong_names
from videodpo.config.section import Section, validate
from videodpo.config.shard_counts import heldout_shards

Arm = Literal["base", "aligned"]
_SUITES = files("videodpo.config").joinpath("suites")
_TOTALS = {"total", *PillarWeights.model_fields}  # names of rows next to those of the dimensions
_RESERVED = "official"  # folder of the benchmark's own program, next to those of the groups


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

    @cached_property
    def listings_sha256(self) -> dict[str, str]:
        """SHA-256 of the names, sizes and times of the files in each folder, by model; computed once per start."""
        return {arm: _listing_sha256(Path(folder)) for arm, folder in self.folders.items()}

    @property
    def official_files(self) -> dict[str, str | None]:
        """Results of the benchmark's own program by model: a file of the user, or None for the run's own."""
        return {
            arm: self.official_results.get(arm) for arm in self.arms if self.official or arm in self.official_results
        }


def _listing_sha256(folder: Path) -> str:
    files = sorted((file.name, file.stat()) for file in folder.iterdir() if file.is_file())
    lines = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class GroupSize(Section):
    num_prompts: int = Field(..., ge=1)
    """Number of prompts of the list that belong to the group: those with one of its dimensions."""
    samples: int = Field(..., ge=1)
    """Clips per prompt."""

    @property
    def num_shards(self) -> int:
        """Number of sampling jobs per model; scoring uses as many."""
        return heldout_shards(self.num_prompts, self.samples)


class Group(GroupSize):
    dimensions: list[str] = Field(..., min_length=1)
    """Dimensions that score the group's clips."""


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
    gates: dict[str, str] = Field(default_factory=dict)
    """By dimension: another one of its group, which chooses the clips that count in it."""
    published: dict[str, dict[str, float]] = Field(default_factory=dict)
    """Published results to show next to the run's own, by model: dimensions and totals."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        for name, group in self.groups.items():
            if not re.fullmatch(r"[A-Za-z0-9_]+", name) or name == _RESERVED:
                yield f"groups.{name}", f"the name may have letters, digits and _, and must not be {_RESERVED}"
            for dimension in group.dimensions:
                if dimension not in self.dimensions:
                    yield f"groups.{name}.dimensions", f"{dimension!r} is not among the suite's dimensions"
        yield from wrong_names({f"dimensions.{name}": name for name in self.dimensions}, _TOTALS)
        for name, one in self.dimensions.items():
            if (count := sum(name in group.dimensions for group in self.groups.values())) != 1:
                yield f"dimensions.{name}", f"in {count} groups; a dimension belongs to exactly one"
            if one.saturate:
                yield f"dimensions.{name}.saturate", "true, but scaled scores of a benchmark are not clipped; remove it"
        for name, gate in self.gates.items():
            if not any({name, gate} <= set(group.dimensions) for group in self.groups.values()):
                yield f"gates.{name}", f"{gate!r} is not in the same group as {name!r}"
            if gate in self.gates:
                yield f"gates.{name}", f"{gate!r} has a gate itself"
        weights = {one.pillar: 0.0 for one in self.dimensions.values() if one.pillar}
        for one in self.dimensions.values():
            if one.pillar:
                weights[one.pillar] += one.weight
        for pillar in (pillar for pillar, weight in weights.items() if not weight):
            yield f"pillars.{pillar}", "all its dimensions have weight 0"
        if weights and not sum(getattr(self.pillars, pillar) for pillar in weights):
            yield "pillars", "each one with dimensions has weight 0; at least one must be above 0"

    def group_of(self, dimension: str) -> str:
        """Name of the group whose clips a dimension scores."""
        return next(name for name, group in self.groups.items() if dimension in group.dimensions)

    def scored(self, group: str) -> list[str]:
        """Dimensions of a group that the run scores."""
        return [name for name in self.groups[group].dimensions if name in self.dimensions]

    @property
    def weighted(self) -> list[str]:
        """Dimensions that the total needs."""
        return [name for name, dimension in self.dimensions.items() if dimension.pillar]

    def restricted(self, wanted: Collection[str]) -> RunSuite:
        """The suite with the wanted dimensions only, their gates, and their groups."""
        gates = {name: gate for name, gate in self.gates.items() if name in wanted}
        kept = {*wanted, *gates.values()}
        changes = {
            "groups": {name: group for name, group in self.groups.items() if kept & set(group.dimensions)},
            "dimensions": {name: dimension for name, dimension in self.dimensions.items() if name in kept},
            "gates": gates,
            "left_out": [name for name in self.weighted if name not in kept],
        }
        return RunSuite(**{**dict(self), **changes})


class RunSuite(Suite):
    """Part of a suite that a run scores. Its groups still name all their dimensions, which determine their prompts."""

    left_out: list[str]
    """Dimensions of the total that the run does not score."""

    def _disagreements(self) -> Iterator[tuple[str, str]]:
        yield from ()  # the suite was checked


def read_suite(name: str) -> Suite:
    """Read a suite by its name or by the path of its YAML file.

    Raises:
        ConfigError: there is no such suite, or the file is not one; the message says why.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else Path(str(_SUITES.joinpath(f"{name}.yaml")))
    if not path.is_file():
        known = ", ".join(sorted(file.name.removesuffix(".yaml") for file in _SUITES.iterdir()))
        raise ConfigError(f"evaluate.benchmark.suite: {name!r} is neither a suite ({known}) nor a YAML file")
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


@cache
def _read(path: Path, mtime_ns: int, size: int) -> Suite:
    """Read a suite once per process and version of the file: a start asks for it dozens of times."""
    return validate(Suite, read_yaml(path), str(path))


def suite_of(benchmark: Benchmark) -> RunSuite:
    """Suite that a run asks for, with the dimensions that it wants.

    Raises:
        ConfigError: as `read_suite`; or a wanted dimension is not in the suite.
    """
    suite = read_suite(benchmark.suite)
    if benchmark.dimensions is None:
        return suite.restricted(suite.dimensions)
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
