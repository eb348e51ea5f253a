"""The forward check on every family's own pipeline, and the noise level behind a timestep."""

import pytest
import torch

from tests.support.families import FAMILIES, write
from videodpo.config import Lora, Model
from videodpo.models.base import collate
from videodpo.models.shared.noise_schedules import Diffusion, FlowMatching
from videodpo.runtime import registry
from videodpo.stages.doctor.forward import check_forward, find_level


@pytest.mark.parametrize("name", FAMILIES)
def test_every_familys_predict_is_its_pipelines_call(name, tmp_path):
    family = FAMILIES[name]
    settings = Model(
        family=family.family,
        weights=str(write(family, tmp_path)),
        dtype="float32",
        max_sequence_length=family.text_tokens,
    )
    model = registry.load("videodpo.models", family.family)(settings, "cpu")
    model.add_lora(Lora(rank=4), seed=0)
    finding = check_forward(model, collate([model.encode_prompt("A red circle.")]), family.sampling)
    assert finding.status == "fine", finding.line
    assert finding.measured.startswith("3 answers")


@pytest.mark.parametrize(
    ("schedule", "timesteps"),
    [
        (FlowMatching(), [0.5, 267.125, 999.9, 1000.0]),
        (Diffusion(torch.linspace(0.99, 0.01, 1000), "epsilon"), [0, 1, 700, 999]),
        (Diffusion(torch.linspace(0.99, 0.01, 1000), "epsilon", timesteps=range(19, 1000, 20)), [19, 519, 999]),
    ],
    ids=["flow", "diffusion", "fifty"],
)
def test_the_noise_level_of_a_timestep_is_found(schedule, timesteps):
    class Model:
        noise_schedule = schedule

    for timestep in timesteps:
        assert float(schedule.timestep(find_level(Model, timestep))) == pytest.approx(timestep, rel=1e-6)
