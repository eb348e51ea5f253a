"""Read a benchmark's prompt list, and assign each prompt to the group of its dimensions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from videodpo.config.benchmark import Group, Suite
from videodpo.config.errors import InputError
from videodpo.preference.suites.base import SuitePrompt
from videodpo.runtime.benchmark_settings import BenchmarkPromptsSettings
from videodpo.runtime.locks import exclusive
from videodpo.runtime.registry import suite_rules
from videodpo.runtime.seeds import prompt_id
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.schemas import BENCHMARK_PROMPTS
from videodpo.storage.tables import read_table, write_table
from videodpo.weights.locations import resolve


def make_benchmark_prompts(snapshot: Snapshot[BenchmarkPromptsSettings]) -> None:
    """Write the prompts of one group, `benchmark_prompts/<group>.parquet`. A prompt may belong to several groups.

    Raises:
        InputError: the list cannot be read, or the group has another number of prompts than the suite says.
    """
    settings = snapshot.settings
    path = resolve(settings.list)
    listed = suite_rules(settings.module).read_prompts(path)
    info = _info(listed, path)
    rows = [
        {
            "prompt_id": prompt_id(prompt),
            "prompt": prompt,
            "position": position,
            "info": json.dumps(info[prompt], sort_keys=True),
        }
        for position, prompt in enumerate(_of_group(settings.group, listed, path))
    ]
    out = prompts_path(snapshot.folder, settings.name)
    with exclusive(snapshot.folder, out):
        write_table(out, rows, BENCHMARK_PROMPTS, **snapshot.provenance)


def prompts_path(run: Path, group: str) -> Path:
    """Path of the table of a group's prompts."""
    return run / "benchmark_prompts" / f"{group}.parquet"


def read_group_prompts(run: Path, suite: Suite) -> pd.DataFrame:
    """Prompts of all groups, with the column `group`."""
    return pd.concat([read_table(prompts_path(run, name)).assign(group=name) for name in suite.groups])


def _info(listed: Sequence[SuitePrompt], path: Path) -> dict[str, dict[str, str]]:
    """What scorers need to know about each prompt; entries of the same prompt must agree."""
    found: dict[str, dict[str, str]] = {}
    for one in listed:
        known = found.setdefault(one.prompt, {})
        for key, text in one.info.items():
            if known.setdefault(key, text) != text:
                raise InputError(
                    f"{path}: {one.prompt!r} is listed with two values of {key!r}, {known[key]!r} and {text!r}"
                )
    return found


def _of_group(group: Group, listed: Sequence[SuitePrompt], path: Path) -> list[str]:
    """Different prompts that one of the group's dimensions scores, in the order of the list."""
    found = list(dict.fromkeys(one.prompt for one in listed if one.dimensions & set(group.dimensions)))
    if len(found) != group.num_prompts:
        raise InputError(
            f"{path}: {len(found)} prompts for {', '.join(group.dimensions)}; the suite's num_prompts is "
            f"{group.num_prompts}, correct it"
        )
    if odd := [prompt for prompt in found if "/" in prompt or "\0" in prompt]:
        raise InputError(f"{path}: prompt {odd[0]!r} cannot be the name of a file")
    return found
