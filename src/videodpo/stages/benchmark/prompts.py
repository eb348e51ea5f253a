"""Read a benchmark's prompt list, and assign each prompt to the group of its dimensions."""

from __future__ import annotations

import json
from pathlib import Path

from videodpo.config.benchmark import Suite
from videodpo.config.errors import InputError
from videodpo.preference.suites.base import SuitePrompt
from videodpo.runtime import registry
from videodpo.runtime.locks import exclusive
from videodpo.runtime.seeds import prompt_id
from videodpo.runtime.snapshot import SUITES, BenchmarkPromptsSettings, Snapshot
from videodpo.storage.schemas import BENCHMARK_PROMPTS
from videodpo.storage.tables import write_table
from videodpo.weights.locations import resolve


def make_benchmark_prompts(snapshot: Snapshot[BenchmarkPromptsSettings]) -> None:
    """Write `benchmark_prompts.parquet`: one row per group and prompt. A prompt may belong to several groups.

    Raises:
        InputError: the list cannot be read, or a group has another number of prompts than the suite says.
    """
    suite = snapshot.settings.suite
    path = resolve(suite.prompts)
    listed = registry.load(SUITES, suite.module).read_prompts(path)
    info: dict[str, dict[str, str]] = {}
    for one in listed:
        info[one.prompt] = info.get(one.prompt, {}) | dict(one.info)
    rows = [
        {
            "group": group,
            "prompt_id": prompt_id(prompt),
            "prompt": prompt,
            "position": position,
            "info": json.dumps(info[prompt], sort_keys=True),
        }
        for group in suite.groups
        for position, prompt in enumerate(_of_group(suite, group, listed, path))
    ]
    out = snapshot.folder / "benchmark_prompts.parquet"
    with exclusive(snapshot.folder, out):
        write_table(out, rows, BENCHMARK_PROMPTS, **snapshot.provenance)


def _of_group(suite: Suite, name: str, listed: list[SuitePrompt], path: Path) -> list[str]:
    """Different prompts that one of the group's dimensions scores, in the order of the list."""
    group = suite.groups[name]
    found = list(dict.fromkeys(one.prompt for one in listed if one.dimensions & set(group.dimensions)))
    if len(found) != group.num_prompts:
        raise InputError(
            f"{path}: {len(found)} prompts for {', '.join(group.dimensions)}; the suite says {group.num_prompts}"
        )
    if odd := [prompt for prompt in found if "/" in prompt or "\0" in prompt]:
        raise InputError(f"{path}: prompt {odd[0]!r} cannot be the name of a file")
    return found
