"""What Wan has beside what every family has."""

import pytest
import torch

from tests.models.families import FAMILIES, TEXT_TOKENS, write
from videodpo.config import Model
from videodpo.models.shared.experts import Experts
from videodpo.models.wan import WanModel


def load(folder, dtype="float32", **options):
    settings = Model(family="wan", weights=str(folder), dtype=dtype, max_text_tokens=TEXT_TOKENS, options=options)
    return WanModel(settings, "cpu")


def test_the_vae_has_its_own_weights_in_float32_beside_a_half_precision_denoiser(random_model):
    full, half = load(random_model), load(random_model, "bfloat16")
    assert {p.dtype for p in half.denoiser.parameters()} >= {torch.bfloat16}
    for name, value in full.pipe.vae.state_dict().items():
        assert torch.equal(half.pipe.vae.state_dict()[name], value), name


def test_the_noise_level_picks_the_expert_and_a_mixed_batch_is_parted():
    class Says(torch.nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, hidden_states, timestep, encoder_hidden_states, return_dict):
            return (self.factor * hidden_states + timestep[:, None] + encoder_hidden_states,)

    experts = Experts(Says(10.0), Says(1.0), boundary=700.0)
    timestep = torch.tensor([900.0, 100.0, 700.0, 699.0])
    hidden, told = torch.randn(4, 3), torch.randn(4, 3)
    factor = torch.tensor([10.0, 1.0, 10.0, 1.0])
    for rows in ([0, 1, 2, 3], [1, 3], [2]):
        (found,) = experts(hidden_states=hidden[rows], timestep=timestep[rows], encoder_hidden_states=told[rows])
        expected = factor[rows, None] * hidden[rows] + timestep[rows, None] + told[rows]
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("second", [None, 3.0, 5.0])
def test_the_second_expert_has_a_guidance_of_its_own(tmp_path, second):
    family = FAMILIES["wan-2.2-a14b"]
    folder = write(family, tmp_path)
    samples = []
    for options in ({}, {} if second is None else {"guidance_scale_2": second}):
        model = load(folder, **options)
        text = {name: value[None] for name, value in model.encode_prompt("A red circle.").items()}
        samples.append(model.sample(text, [1], family.sampling))
    assert torch.equal(*samples) == (second in (None, family.sampling.guidance_scale))
