"""Files and jobs of a run's benchmark, as the rules need them."""

from __future__ import annotations

from functools import cached_property

from videodpo.config.benchmark import Benchmark, RunSuite, suite_of
from videodpo.config.shard_counts import shard_numbers
from videodpo.runtime import registry

_ABOVE = "round{round}/benchmark"


class BenchmarkFiles:
    """Files of a benchmark, relative to the run's folder; there are none without a benchmark.

    `{round}` and `{arm}` are wildcards of the rules.
    """

    def __init__(self, benchmark: Benchmark | None) -> None:
        """Take `evaluate.benchmark` of a checked configuration."""
        self._benchmark = benchmark

    @cached_property
    def suite(self) -> RunSuite | None:
        """Prompt groups, dimensions and formula of the benchmark."""
        return suite_of(self._benchmark) if self._benchmark else None

    @cached_property
    def arms(self) -> list[str]:
        """Models that the benchmark scores."""
        return list(self._benchmark.arms) if self._benchmark else []

    @property
    def needs_sampling(self) -> bool:
        """True if the run samples clips for the benchmark; False if it copies the clips of all models."""
        return bool(self._benchmark and set(self.arms) - set(self._benchmark.folders))

    def copies(self, arm: str) -> bool:
        """True if the clips of this model are the user's own."""
        return bool(self._benchmark and arm in self._benchmark.folders)

    def shards(self, group: str) -> list[str]:
        """Numbers of the shards of a group's clips."""
        assert self.suite is not None
        return shard_numbers(self.suite.groups[group].num_shards)

    def dimensions(self, group: str) -> list[str]:
        """Dimensions that score the clips of a group."""
        assert self.suite is not None
        return self.suite.scored(group)

    @property
    def num_gpus(self) -> int:
        """Number of GPUs that a scoring job requests."""
        dimensions = self.suite.dimensions if self.suite else {}
        scorers = (registry.load("videodpo.scorers", one.scorer or name) for name, one in dimensions.items())
        return int(any(scorer.uses_gpu for scorer in scorers))

    @cached_property
    def prompts(self) -> list[str]:
        """Tables of the prompts."""
        return [f"benchmark_prompts/{group}.parquet" for group in self._groups]

    @cached_property
    def videos(self) -> list[str]:
        """Tables of one model's clips."""
        return [
            f"{_ABOVE}/{group}/videos/{{arm}}/shard-{shard}.parquet"
            for group in self._groups
            for shard in self.shards(group)
        ]

    @cached_property
    def tables(self) -> list[str]:
        """Tables of all models' clips, and the lists of the tables of their scores."""
        return [
            f"{_ABOVE}/{group}/{file}"
            for group in self._groups
            for arm in self.arms
            for file in (
                *(f"videos/{arm}/shard-{shard}.parquet" for shard in self.shards(group)),
                *(f"scores/{arm}/{dimension}/shards.json" for dimension in self.dimensions(group)),
            )
        ]

    @cached_property
    def official_folder(self) -> list[str]:
        """Folder of one model's clips for the benchmark's own program."""
        return [f"{_ABOVE}/official/videos/{{arm}}"] if self._benchmark else []

    @cached_property
    def official_results(self) -> list[str]:
        """Results of the benchmark's own program that the run makes."""
        files = self._benchmark.official_files if self._benchmark else {}
        return [f"{_ABOVE}/official/{arm}.json" for arm, file in files.items() if file is None]

    @cached_property
    def summary(self) -> list[str]:
        """Summary of a round's benchmark."""
        return [f"{_ABOVE}/summary.json"] if self._benchmark else []

    @property
    def _groups(self) -> list[str]:
        return list(self.suite.groups) if self.suite else []
