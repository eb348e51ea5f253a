"""Settings of the stages of a benchmark. Those of sampling are kept apart for each group of prompts.

Therefore an edit of one group, of a scale, or of a folder of clips samples no other clip again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from pydantic import Field

from videodpo.config import Config, Model, Sampling, Section
from videodpo.config.benchmark import Group, Suite, official_groups, suite_of
from videodpo.config.shard_counts import heldout_shards


class Folder(Section):
    """A folder of the user's own clips."""

    path: str
    listing: str
    """SHA-256 of the names, sizes and times of its files."""


class BenchmarkPromptsSettings(Section):
    module: str
    list: str
    """The prompt list."""
    name: str
    """Name of the group."""
    group: Group


class BenchmarkGenerateSettings(Section):
    num_prompts: int
    samples: int
    sampling: Sampling
    model: Model

    @property
    def num_shards(self) -> int:
        return heldout_shards(self.num_prompts, self.samples)


class BenchmarkCopySettings(Section):
    num_prompts: int
    samples: int
    folders: dict[str, Folder]
    """The user's own clips, by model."""

    @property
    def num_shards(self) -> int:
        return heldout_shards(self.num_prompts, self.samples)


class BenchmarkOfficialSettings(Section):
    videos_folder: str
    """Name of the folder of clips for the benchmark's own program."""
    module: str
    groups: dict[str, Group]
    filtered: list[str]
    """Groups whose clips a filter chooses."""
    official_groups: dict[str, str | None]
    """Group of each dimension of the total; None if the run has no clips of this group."""


class BenchmarkSettings(Section):
    suite_name: str
    """Name or file of the suite."""
    suite: Suite
    arms: list[str]
    folders: dict[str, Folder]
    bootstrap_resamples: int
    sampled: dict[str, Any] | None
    """Model and sampling settings of the clips that the run samples, to be recorded; None if there are none."""
    official: dict[str, str | None] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """Results of the benchmark's own program by model: a file of the user, or None for the run's own."""
    official_groups: dict[str, str | None] = Field(default_factory=dict, exclude_if=lambda value: not value)
    """As in BenchmarkOfficialSettings."""


BENCHMARK_KINDS: dict[str, type[Section]] = {
    "benchmark_prompts": BenchmarkPromptsSettings,
    "benchmark_generate": BenchmarkGenerateSettings,
    "benchmark_copy": BenchmarkCopySettings,
    "benchmark": BenchmarkSettings,
    "benchmark_official": BenchmarkOfficialSettings,
}
OF_A_GROUP = ("benchmark_prompts", "benchmark_generate", "benchmark_copy")  # stages with settings for each group


def benchmark_values(config: Config, stage: str, group: str) -> dict[str, Any]:
    """Values of the fields of a stage's settings that are no keys of the configuration.

    Args:
        config: a configuration with a benchmark.
        stage: a key of `BENCHMARK_KINDS`.
        group: group of the benchmark's prompts, for a stage of `OF_A_GROUP`.
    """
    benchmark = config.evaluate.benchmark
    assert benchmark is not None
    suite = suite_of(benchmark)
    folders = benchmark.folders if stage in ("benchmark_copy", "benchmark") else {}
    is_sampled = set(benchmark.arms) - set(benchmark.folders)
    values: dict[str, Any] = {
        "suite": suite,
        "suite_name": benchmark.suite,
        "module": suite.module,
        "list": suite.prompts,
        "groups": {name: one.model_dump() for name, one in suite.groups.items()},
        "filtered": [name for name in suite.groups if suite.gates(name)],
        "arms": benchmark.arms,
        "folders": {arm: {"path": path, "listing": _listing(Path(path))} for arm, path in folders.items()},
        "videos_folder": benchmark.videos_folder,
        "official": benchmark.official_files,
        "official_groups": {},
        "bootstrap_resamples": config.evaluate.bootstrap_resamples,
        "sampling": config.generate.sampling,
        "model": config.model,
        "sampled": None,
    }
    if benchmark.official_files or stage == "benchmark_official":
        values["official_groups"] = official_groups(benchmark)
    if is_sampled:
        model = f"{config.model.family} {config.model.weights}"
        values["sampled"] = {"model": model, **config.generate.sampling.model_dump()}
    if group:
        own = suite.groups[group]
        values |= {"name": group, "group": own, "num_prompts": own.num_prompts, "samples": own.samples}
    return values


def _listing(folder: Path) -> str:
    files = sorted((file.name, file.stat()) for file in folder.iterdir() if file.is_file())
    lines = [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
