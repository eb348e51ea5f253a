"""What only Wan has: a float32 VAE, two experts, UniPC, and a flow shift in its folder."""

import diffusers
import pytest
import torch

from tests.support.families import FAMILIES, TEXT_TOKENS, write
from videodpo.config import Model
from videodpo.config.errors import InputError
from videodpo.models.shared.experts import Experts
from videodpo.models.shared.flow_shift import with_flow_shift
from videodpo.models.wan import WanModel


def load(folder, dtype="float32", **options):
    settings = Model(family="wan", weights=str(folder), dtype=dtype, max_sequence_length=TEXT_TOKENS, options=options)
    return WanModel(settings, "cpu")


def test_the_vae_stays_in_float32_with_a_half_precision_denoiser(random_model):
    full, half = load(random_model), load(random_model, "bfloat16")
    assert {p.dtype for p in half.denoiser.parameters()} >= {torch.bfloat16}
    for name, value in full.pipe.vae.state_dict().items():
        assert torch.equal(half.pipe.vae.state_dict()[name], value), name


def test_the_noise_level_selects_the_expert_and_a_mixed_batch_is_split():
    class Says(torch.nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, hidden_states, timestep, encoder_hidden_states, return_dict):
            return (self.factor * hidden_states + timestep[:, None] + encoder_hidden_states,)

    experts = Experts(Says(10.0), Says(1.0), boundary=700.0)
    timestep = torch.tensor([900.0, 100.0, 700.0, 699.0])
    hidden, encoded = torch.randn(4, 3), torch.randn(4, 3)
    factor = torch.tensor([10.0, 1.0, 10.0, 1.0])
    for rows in ([0, 1, 2, 3], [1, 3], [2]):
        (found,) = experts(hidden_states=hidden[rows], timestep=timestep[rows], encoder_hidden_states=encoded[rows])
        expected = factor[rows, None] * hidden[rows] + timestep[rows, None] + encoded[rows]
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("second", [3.0, 5.0])
def test_the_second_expert_has_a_guidance_of_its_own(tmp_path, second):
    family = FAMILIES["wan-2.2-a14b"]
    folder = write(family, tmp_path)
    samples = []
    for options in ({}, {"guidance_scale_2": second}):
        model = load(folder, **options)
        text = {name: value[None] for name, value in model.encode_prompt("A red circle.").items()}
        samples.append(model.sample(text, [1], family.sampling))
    assert torch.equal(*samples) == (second == family.sampling.guidance_scale)


def test_the_published_scheduler_samples_as_the_plain_pipeline_does(tmp_path):
    """Wan's repositories use UniPC, a multi-step scheduler with a state."""
    family = FAMILIES["wan-2.1"]
    pipe = family.make()
    pipe.scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    pipe.save_pretrained(tmp_path)
    model, plain = load(tmp_path), diffusers.WanPipeline.from_pretrained(tmp_path)
    sampling = family.sampling.model_copy(update={"num_steps": 5})
    text = {name: value[None].repeat(2, 1, 1) for name, value in model.encode_prompt("A red circle.").items()}
    found = model.sample(text, [3, 4], sampling)
    for row, seed in enumerate((3, 4)):
        generator = torch.Generator("cpu").manual_seed(seed)
        noise = torch.randn(model.latent_shape(sampling), generator=generator)
        expected = plain(
            prompt="A red circle.",
            negative_prompt=sampling.negative_prompt,
            latents=noise[None],
            generator=generator,
            num_frames=sampling.num_frames,
            height=sampling.height,
            width=sampling.width,
            num_inference_steps=5,
            guidance_scale=sampling.guidance_scale,
            max_sequence_length=TEXT_TOKENS,
            output_type="latent",
        ).frames
        torch.testing.assert_close(found[row : row + 1], expected, rtol=0, atol=1e-4)
    scheduler = model.pipe.scheduler
    scheduler.set_timesteps(5)
    latents, noise = torch.randn(2, 1, 4, 2, 8, 8).unbind(0)
    for timestep, sigma in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        noise_level = sigma.view(1)
        assert model.noise_schedule.timestep(noise_level).item() == pytest.approx(timestep.item(), abs=1)
        expected = (1 - sigma) * latents + sigma * noise
        torch.testing.assert_close(model.noise_schedule.add_noise(latents, noise, noise_level), expected)


@pytest.mark.parametrize("scheduler", ["unipc", "euler"])
def test_a_flow_shift_samples_as_a_folder_that_has_it(tmp_path, scheduler):
    def make(shift):
        if scheduler == "euler":
            return diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
        return diffusers.UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
        )

    family = FAMILIES["wan-2.1"]
    torch.manual_seed(0)
    pipe = family.make()
    for shift in (3.0, 12.0):
        pipe.scheduler = make(shift)
        pipe.save_pretrained(tmp_path / str(shift))
    model, other = load(tmp_path / "3.0"), load(tmp_path / "12.0")
    text = {name: value[None] for name, value in model.encode_prompt("A red circle.").items()}
    shifted = family.sampling.model_copy(update={"flow_shift": 12.0})
    own = model.sample(text, [1], family.sampling)
    assert torch.equal(model.sample(text, [1], shifted), other.sample(text, [1], family.sampling))
    assert not torch.allclose(model.sample(text, [1], shifted), own, atol=1e-3)
    assert torch.equal(model.sample(text, [1], family.sampling), own)


@pytest.mark.parametrize(("shift", "steps"), [(3.0, 13), (12.0, 26)])
def test_the_flow_shift_decides_how_many_of_40_steps_the_expert_for_high_noise_has(shift, steps):
    """26 steps at the shift of Wan 2.2 A14B's authors; the converted folder's shift of 3 gives 13."""
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    shifted = with_flow_shift(scheduler, shift)
    shifted.set_timesteps(40)
    assert int((shifted.timesteps >= 0.875 * 1000).sum()) == steps


def test_a_flow_shift_is_refused_if_the_folders_scheduler_has_none():
    with pytest.raises(InputError, match=r"generate\.sampling\.flow_shift: 5; the model's DDIMScheduler has no"):
        with_flow_shift(diffusers.DDIMScheduler(), 5.0)
