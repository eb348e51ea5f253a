"""Values that are not finite, from a model or a scorer, give a failed row or an error that names them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from videodpo.models.wan import WanModel
from videodpo.scorers.base import Clip, Scorer
from videodpo.scorers.shared.backbone import score_clips
from videodpo.storage.tables import read_shards, read_table
from videodpo.storage.tensors import write_tensors

GIVEN = [math.nan, math.inf, -math.inf, None, "high", [], [0.5, 0.5], torch.ones(2), {"score": 1.0}]


class Odd(Scorer):
    """Scorer that returns a given value."""

    def __init__(self, given):
        self.given = given

    def score(self, clip):
        return self.given


@pytest.mark.parametrize("given", GIVEN, ids=repr)
def test_a_score_that_is_not_a_number_is_a_failure_with_a_reason(given):
    clip = Clip(np.zeros((2, 16, 16, 3), np.uint8), 8.0, "a tram")
    (((result,),),) = ([score_clips([Odd(given)], [clip])[0]],)
    assert isinstance(result, ValueError)
    assert "the scorer returned" in str(result)


@pytest.fixture
def lenient(stages, small_config):
    """A run with prompts in which half of the clips may fail."""
    run = stages(small_config(max_failed_fraction=0.5))
    run.prompts()
    return run


def failed(run):
    """Reasons by video. All other clips must exist, and no score table may have a number for these."""
    table = read_shards(run.round_folder / "videos")
    lost = table[table["status"] != "ok"]
    assert lost[["path", "sha256", "latents"]].isna().all(axis=None)
    assert all((run.folder / path).is_file() for path in table["path"].dropna())
    run.score()
    for dimension in run.config.dimensions:
        scores = read_shards(run.round_folder / "scores" / dimension).set_index("video_id")["value"]
        assert scores.index[scores.isna()].tolist() == lost["video_id"].tolist()
    return dict(zip(lost["video_id"], lost["error"], strict=True))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_clip_that_the_decoder_spoils_is_a_failed_row(lenient, monkeypatch, bad):
    decode = WanModel.decode_raw

    def spoiled(self, raw_BCFHW):
        pixels = decode(self, raw_BCFHW)
        pixels[1, 0, 2, 5, 7] = bad
        return pixels

    monkeypatch.setattr(WanModel, "decode_raw", spoiled)
    lenient.generate()
    found = failed(lenient)
    assert len(found) == 5  # the second clip of each batch
    assert set(found.values()) == {"the VAE decoded finite latents to NaN or infinite pixels"}


def test_clips_of_a_prompt_whose_encoding_is_infinite_are_failed_rows(lenient, monkeypatch):
    encode, victim = WanModel.encode_prompt, read_table(lenient.folder / "prompts.parquet").iloc[0]
    assert victim["split"] == "train"

    def spoiled(self, prompt):
        text = encode(self, prompt)
        return {name: tensor * math.inf for name, tensor in text.items()} if prompt == victim["prompt"] else text

    monkeypatch.setattr(WanModel, "encode_prompt", spoiled)
    lenient.generate()
    assert failed(lenient) == {
        f"{victim['prompt_id']}-{sample}": "the model sampled NaN or infinite latents" for sample in range(3)
    }


def spoil(run, bad, names=None):
    """Write a value that is not finite into these latents, or into all."""
    (file,) = (run.round_folder / "videos" / "latents").glob("*.safetensors")
    latents = load_file(file)
    for name in names or latents:
        latents[name].view(-1)[0] = bad
    write_tensors(file, latents)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_stage_without_any_finite_reference_error_stops_and_names_the_first(stages, small_config, bad):
    run = stages(small_config(prompts={"num_train": 2}))
    run.until_pairs()
    spoil(run, bad)
    with pytest.raises(
        RuntimeError, match=r"none of \d+ visits has finite errors, the first is pair \d+, visit \d+, tim"
    ):
        run.reference()
    assert not list((run.round_folder / "reference").glob("*.parquet"))


def test_the_training_skips_the_steps_of_a_pair_without_finite_reference_errors(stages, small_config, caplog):
    schedule = {"num_steps": 6, "global_batch_size": 1, "micro_batch_size": 1, "validation": {"num_prompts": 0}}
    run = stages(small_config(schedule=schedule))
    run.until_pairs()
    pair = read_table(run.round_folder / "pairs.parquet").iloc[0]
    latents = read_shards(run.round_folder / "videos").set_index("video_id")["latents"]
    spoil(run, math.nan, [latents[pair["winner_id"]].partition("#")[2]])
    run.reference()
    assert f"pair {pair['pair_id']}, visit 0, timestep" in caplog.text
    reference = read_shards(run.round_folder / "reference")
    lost = reference["pair_id"] == pair["pair_id"]
    assert reference["ref_error_winner"].isna().equals(lost)
    assert reference["ref_error_loser"].notna().all()
    run.train()
    visits = read_table(run.round_folder / "visits.parquet")
    assert read_table(run.round_folder / "train_log.parquet")["skipped"].tolist() == lost[: len(visits)].tolist()
    assert 0 < lost.sum() < len(lost)
