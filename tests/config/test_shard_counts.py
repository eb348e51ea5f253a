"""Number of shards for `auto`: it depends on the configuration only, and is limited so that the plan stays small."""

from __future__ import annotations

import pytest

from tests.conftest import ROOT, small_run
from videodpo.config import ConfigError, parse_config
from videodpo.config.loading import read_config
from videodpo.runtime.snapshot import snapshot_text


def config(num_train, **changes):
    raw = read_config(ROOT / "config.yaml", [], [])
    raw["prompts"]["num_train"] = num_train
    raw["schedule"]["validation"] = {"num_prompts": 0}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            raw[section][name] = value
        else:
            raw[section] = value
    return parse_config(raw)


@pytest.mark.parametrize(
    ("num_train", "shards"),
    [(1, 1), (50, 1), (51, 2), (10_000, 200), (50_000, 1000), (1_000_000, 1000), (10**8, 1000), (None, 200)],
)
def test_shards_of_200_clips_until_there_are_1000(num_train, shards):
    assert config(num_train).generate.shards == shards


@pytest.mark.parametrize("num_train", [1000, 1_000_000, None])
def test_another_round_does_not_change_the_shards_of_the_first(num_train):
    one, more = config(num_train), config(num_train, rounds=4)
    assert (more.generate.shards, more.reference.shards) == (one.generate.shards, one.reference.shards)


def test_a_given_number_is_used():
    assert config(1_000_000, generate__shards=7).generate.shards == 7


@pytest.mark.parametrize(("heldout", "videos", "shards"), [(50, 1, 1), (500, 1, 10), (500, 2, 20), (10**6, 1, 100)])
def test_shards_of_the_evaluation(heldout, videos, shards):
    found = config(10, prompts__num_heldout=heldout, evaluate__videos_per_prompt=videos)
    assert found.evaluate.shards == shards


@pytest.mark.parametrize(("steps", "shards"), [(10, 1), (3000, 32), (10**6, 200)])
def test_shards_of_the_reference_errors(steps, shards):
    raw = read_config(ROOT / "config.yaml", [], [])
    raw["schedule"]["num_steps"] = steps
    raw["train"]["warmup_steps"] = 0
    assert parse_config(raw).reference.shards == shards


@pytest.mark.parametrize("shards", [0, "many", 1.5, True, None])
def test_anything_else_is_refused_by_its_key(shards):
    with pytest.raises(ConfigError, match=r"generate\.shards"):
        config(10, generate__shards=shards)


def test_auto_and_its_number_give_the_same_snapshots():
    assert snapshot_text(config(10_000), "generate") == snapshot_text(config(10_000, generate__shards=200), "generate")
    assert snapshot_text(config(10_000), "reference") == snapshot_text(
        config(10_000, reference={"shards": 32}), "reference"
    )


def test_a_small_run_without_the_keys_has_one_shard(tmp_path):
    raw = small_run(tmp_path, tmp_path)
    del raw["generate"]["shards"], raw["reference"]
    found = parse_config(raw)
    assert (found.generate.shards, found.reference.shards, found.evaluate.shards) == (1, 1, 1)
