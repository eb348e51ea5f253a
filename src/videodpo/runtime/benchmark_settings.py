"""Settings of the stages of a benchmark. Those of sampling are kept apart for each group of prompts.

Therefore an edit of one group, of a scale, or of a folder of clips samples no other clip again.
"""

from __future__ import annotations

from typing import Any

from videodpo.config import Config, Model, Sampling, Section
from videodpo.config.benchmark import Group, GroupSize, RunSuite, official_groups, read_suite, suite_of


class Folder(Section):
    """A folder of the user's own clips."""

    path: str
    listing_sha256: str
    """SHA-256 of the names, sizes and times of its files."""


class BenchmarkPromptsSettings(Section):
    module: str
    list: str
    """The prompt list."""
    name: str
    """Name of the group."""
    group: Group


class BenchmarkGenerateSettings(GroupSize):
    sampling: Sampling
    model: Model


class BenchmarkCopySettings(GroupSize):
    folders: dict[str, Folder]
    """The user's own clips, by model."""


class BenchmarkOfficialSettings(Section):
    module: str
    groups: list[str]
    filtered: dict[str, str]
    """Dimensions whose clips a filter chooses, and their groups."""
    official_groups: dict[str, str | None]
    """Group of each dimension of the total; None if the run has no clips of this group."""


class BenchmarkSettings(Section):
    suite_name: str
    """Name or file of the suite."""
    suite: RunSuite
    arms: list[str]
    folders: dict[str, Folder]
    bootstrap_resamples: int
    sampled: dict[str, Any] | None
    """Model and sampling settings of the clips that the run samples, to be recorded; None if there are none."""
    official: dict[str, str | None]
    """Results of the benchmark's own program by model: a file of the user, or None for the run's own."""
    official_groups: dict[str, str | None]
    """As in BenchmarkOfficialSettings."""


BENCHMARK_KINDS: dict[str, type[Section]] = {
    "benchmark_prompts": BenchmarkPromptsSettings,
    "benchmark_generate": BenchmarkGenerateSettings,
    "benchmark_copy": BenchmarkCopySettings,
    "benchmark": BenchmarkSettings,
    "benchmark_official": BenchmarkOfficialSettings,
}
PER_GROUP_STAGES = ("benchmark_prompts", "benchmark_generate", "benchmark_copy")


def benchmark_values(config: Config, stage: str, group: str) -> dict[str, Any]:
    """Values of the fields of a stage's settings that are no keys of the configuration.

    Args:
        config: a configuration with a benchmark.
        stage: a key of `BENCHMARK_KINDS`.
        group: group of the benchmark's prompts, for a stage of `PER_GROUP_STAGES`.
    """
    benchmark = config.evaluate.benchmark
    assert benchmark is not None
    suite = suite_of(benchmark)
    gated = {name: read_suite(benchmark.suite).group_of(name) for name in read_suite(benchmark.suite).gates}
    sampled_arms = set(benchmark.arms) - set(benchmark.folders)
    values: dict[str, Any] = {
        "suite": suite,
        "suite_name": benchmark.suite,
        "module": suite.module,
        "list": suite.prompts,
        "groups": list(suite.groups),
        "filtered": {name: group for name, group in gated.items() if group in suite.groups},
        "arms": benchmark.arms,
        "folders": {
            arm: {"path": path, "listing_sha256": benchmark.listings_sha256[arm]}
            for arm, path in benchmark.folders.items()
        },
        "official": benchmark.official_files,
        "official_groups": official_groups(benchmark),
        "bootstrap_resamples": config.evaluate.bootstrap_resamples,
        "sampling": config.generate.sampling,
        "model": config.model,
        "sampled": None,
    }
    if sampled_arms:
        values["sampled"] = {"model": config.model.model_dump(), "sampling": config.generate.sampling.model_dump()}
    if group:
        own = suite.groups[group]
        values |= {"name": group, "group": own, "num_prompts": own.num_prompts, "samples": own.samples}
    return values
