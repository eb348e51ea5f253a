"""docs/rerun.md names the settings snapshots that a changed key changes."""

from __future__ import annotations

import functools
import html
import re
from pathlib import Path
from typing import Any

import pytest

from videodpo.config import Config, validate
from videodpo.config.loading import read_config, with_settings
from videodpo.runtime.snapshot import snapshot_text, stage_names

ROOT = Path(__file__).resolve().parents[2]
CLIP = "overall_consistency_clip"
# The first key of each row, and changes of the demo's configuration.
CHANGES = {
    "seed": ["seed=7"],
    "prompts": ["prompts.min_chars=4"],
    "model": ["model.max_sequence_length=16"],
    "generate.sampling": ["generate.sampling.num_steps=40"],
    "generate.videos_per_prompt": ["generate.videos_per_prompt=8", "generate.shards=3"],
    "dimensions.<name>.options": [f"dimensions.{CLIP}.options.weights=./demo/clip"],
    "dimensions.<name>.pillar": [f"dimensions.{CLIP}.weight=2.0", f"dimensions.{CLIP}.max=0.9"],
    "omniscore": ["omniscore.clip=true"],
    "pillar: null": ["dimensions.dynamic_flow={}"],
    "pairs": ["pairs.policy=all"],
    "schedule": ["schedule.num_steps=300"],
    "reference": ["reference.shards=7"],
    "train": ["train.beta=200.0"],
    "evaluate.videos_per_prompt": ["evaluate.videos_per_prompt=3", "evaluate.shards=2"],
    "evaluate.judges": ["evaluate.judges.dynamic_flow={}"],
    "evaluate.bootstrap_resamples": ["evaluate.bootstrap_resamples=500", "evaluate.motion_dimension=null"],
    "evaluate.diversity_dimension": ["evaluate.diversity_dimension=subject_consistency_clip"],
    "evaluate.benchmark": ["evaluate.benchmark=vbench"],
    "report": ["report.num_pairs=3"],
    "rounds": ["rounds=2"],
    "device": ["device=cpu", "train_runtime.compile=true", "max_failed_fraction=0.5", "clip_storage=tar"],
    "run": ["run=other", "results=elsewhere"],
}
MATCH_SAMPLER = "schedule.timesteps.distribution=match_sampler"
UNIFORM = "schedule.timesteps.distribution=uniform"


def _rows() -> dict[str, str]:
    """Second column of the page's first table, by the first key of each row."""
    page = (ROOT / "docs" / "rerun.md").read_text(encoding="utf-8")
    table = page.partition("| changed key |")[2].partition("\n\n")[0]
    rows = [[html.unescape(cell.strip()) for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    return {re.findall("`([^`]+)`", key)[0]: snapshots for key, snapshots, _ in rows}


@functools.cache
def _demo() -> dict[str, Any]:
    return read_config(ROOT / "config.yaml", [ROOT / "presets" / "demo.yaml"])


@functools.cache
def _snapshots(*settings: str) -> dict[str, str]:
    raw = with_settings(_demo(), settings)
    config = validate(Config, raw, "configuration")
    return {name: snapshot_text(config, name) for name in stage_names(config) if name != "execution"}


def _general(name: str) -> str:
    return f"{name.partition('/')[0]}/<name>" if "/" in name else name


def _changed(setting: str, *others: str) -> set[str]:
    """Snapshots that a setting changes, or adds; any score is `score/<name>`."""
    before, after = _snapshots(*others), _snapshots(*others, setting)
    names = {name for name, text in after.items() if text != before.get(name)}
    return set(map(_general, names))


def test_every_row_has_a_change() -> None:
    assert list(_rows()) == list(CHANGES)


@pytest.mark.parametrize("key", CHANGES)
def test_row_names_the_snapshots_that_change(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)  # the demo's weights are relative paths
    named = _rows()[key]
    listed, _, with_match_sampler = named.removesuffix(" with `match_sampler`").partition("; ")
    everything = set(map(_general, _snapshots(UNIFORM)))
    wanted = everything if listed == "all" else set() if listed == "none" else set(listed.split(", "))
    for setting in CHANGES[key]:
        assert _changed(setting, UNIFORM) == wanted
        assert _changed(setting, MATCH_SAMPLER) == wanted | set(filter(None, [with_match_sampler]))
