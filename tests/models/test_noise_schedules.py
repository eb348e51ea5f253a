"""Noise schedules without a model."""

import pytest
import torch

from videodpo.models.shared.noise_schedules import Diffusion, FlowMatching


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
    for timestep in timesteps:
        noise_level = torch.tensor([schedule.noise_level(timestep)])
        assert float(schedule.timestep(noise_level)) == pytest.approx(timestep, rel=1e-6)
