"""On-policy rounds: round 2 samples and trains from the adapter of round 1; the reference stays the base model."""

import pytest
import torch
from safetensors.torch import load_file

from tests.support.workspace import dry_run, make_workspace, without_default_scorers
from videodpo.cli import main
from videodpo.storage.tables import read_shards, read_table


@pytest.fixture(scope="module")
def two_rounds(paired, random_model, tmp_path_factory, stages):
    """Round 1 by the stages, round 2 by the command line."""
    from tests.conftest import small_run

    results = tmp_path_factory.mktemp("rounds")
    paired.copy(results)
    run = stages(small_run(random_model, results, rounds=2))
    run.reference()
    run.train()
    dimensions = list(run.config.dimensions)
    jobs = [("generate", "generate", [])]
    jobs += [("collect-scores", f"score/{name}", ["--dimension", name]) for name in dimensions]
    jobs += [(stage, stage, []) for stage in ("omniscore", "pairs", "visits", "reference", "train")]
    for stage, name, arguments in jobs:
        run.snapshot(name)
        config = str(run.folder / "config" / f"{name}.json")
        assert main([stage, "--config", config, "--round", "2", *arguments]) == 0
    return run


def test_round_2_samples_from_the_first_adapter_with_other_seeds(two_rounds):
    first, second = (read_shards(two_rounds.folder / f"round{number}" / "videos") for number in (1, 2))
    assert first["adapter"].isna().all()
    assert second["adapter"].str.startswith("round1/adapter ").all()
    assert first["video_id"].tolist() == second["video_id"].tolist()
    assert not set(first["seed"]) & set(second["seed"])


def test_round_2_trains_from_the_first_adapter_against_the_base_model(two_rounds):
    log = read_table(two_rounds.folder / "round2" / "train_log.parquet")
    assert log["margin"][0] != 0  # the policy is no longer the reference
    one, two = (
        load_file(two_rounds.folder / f"round{number}" / "adapter" / "pytorch_lora_weights.safetensors")
        for number in (1, 2)
    )
    change = max((two[name] - value).abs().max().item() for name, value in one.items())
    assert 0 < change < max(value.abs().max().item() for value in one.values())
    assert all(torch.isfinite(value).all() for value in two.values())


def test_the_workflow_chains_the_rounds_and_evaluates_the_last(tmp_path, random_model):
    from tests.conftest import small_run

    raw = small_run(random_model, "results", rounds=2)
    raw["prompts"]["source"]["path"] = None
    make_workspace(tmp_path, without_default_scorers(raw))
    jobs = dry_run(tmp_path, "--configfile", "overlay.yaml")
    rounds = {rule: {job.wildcards["round"] for job in jobs if job.rule == rule} for rule in ("generate", "train")}
    assert rounds == {"generate": {"1", "2"}, "train": {"1", "2"}}
    assert {job.wildcards["round"] for job in jobs if job.rule == "evaluate_generate"} == {"2"}
