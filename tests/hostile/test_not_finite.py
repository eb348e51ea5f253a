"""What is no finite number, from a model or a scorer: a failed row, or a stop that names the place."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from videodpo.scorers.base import Clip, Scorer
from videodpo.scorers.shared.backbone import score_clips
from videodpo.tensors import write_tensors

GIVEN = [math.nan, math.inf, -math.inf, None, "high", [], [0.5, 0.5], torch.ones(2), {"score": 1.0}]


class Odd(Scorer):
    """Gives what it is told."""

    def __init__(self, given):
        self.given = given

    def score(self, clip):
        return self.given


@pytest.mark.parametrize("given", GIVEN, ids=repr)
def test_what_a_scorer_gives_that_is_no_number_is_a_reason(given):
    clip = Clip(np.zeros((2, 16, 16, 3), np.uint8), 8.0, "a tram")
    (((result,),),) = ([score_clips([Odd(given)], [clip])[0]],)
    assert isinstance(result, ValueError)
    assert "the scorer gave" in str(result)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_reference_errors_that_are_not_finite_name_pair_and_timestep(stages, small_config, bad):
    run = stages(small_config(prompts={"num_train": 2}))
    run.until_pairs()
    (file,) = (run.round_folder / "videos" / "latents").glob("*.safetensors")
    latents = load_file(file)
    latents["0"].view(-1)[0] = bad
    write_tensors(file, {name: latents["0"].clone() for name in latents})
    with pytest.raises(
        ValueError, match=r"reference: pair \d+, visit \d+, timestep [\d.]+: the base model's errors are"
    ):
        run.reference()
    assert not list((run.round_folder / "reference").glob("*.parquet"))
