"""The Wan adapter against diffusers' own pipeline, on a random model of the real classes."""

import numpy as np
import pytest
import torch
from diffusers import WanPipeline

from videodpo.config import Lora, Model, Sampling
from videodpo.models.wan import WanModel

SAMPLING = Sampling(num_frames=5, height=32, width=32, num_steps=3, guidance_scale=3.0, negative_prompt="blurred")
PROMPT = "A red circle moves left on a gray background."


@pytest.fixture
def model(random_model):
    return WanModel(Model(family="wan", weights=str(random_model), dtype="float32", max_text_tokens=32), "cpu")


def disturb_adapter(model):
    """Give a fresh LoRA values that are not zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.denoiser.parameters():
            if parameter.requires_grad:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))


def one_forward(model):
    noise = model.draw_noise(1, SAMPLING)[None]
    with torch.no_grad():
        return model.predict(noise, torch.tensor([0.7]), model.encode_prompt(PROMPT)[None])


def test_samples_equal_the_plain_pipelines(model, random_model):
    noise = model.draw_noise(11, SAMPLING)
    latents = model.sample(model.encode_prompt(PROMPT)[None], noise[None], SAMPLING)
    frames = model.decode(latents)[0]
    pipe = WanPipeline.from_pretrained(random_model)
    expected = pipe(
        prompt=PROMPT,
        negative_prompt="blurred",
        height=32,
        width=32,
        num_frames=5,
        num_inference_steps=3,
        guidance_scale=3.0,
        latents=noise[None],
        max_sequence_length=32,
        output_type="np",
    ).frames[0]
    np.testing.assert_allclose(frames / 255.0, expected, atol=0.5 / 255 + 1e-4)


def test_training_forward_equals_the_pipelines_denoiser_call(model):
    calls = []
    inner = model.denoiser.forward

    def record(*args, **kwargs):
        out = inner(*args, **kwargs)
        calls.append((kwargs, out[0]))
        return out

    model.denoiser.forward = record
    plain = SAMPLING.model_copy(update={"guidance_scale": 1.0})
    text = model.encode_prompt(PROMPT)[None]
    model.sample(text, model.draw_noise(2, SAMPLING)[None], plain)
    model.denoiser.forward = inner
    assert len(calls) == SAMPLING.num_steps
    for kwargs, expected in calls:
        level = kwargs["timestep"] / 1000.0
        prediction = model.predict(kwargs["hidden_states"], level, text)
        torch.testing.assert_close(prediction, expected, rtol=0, atol=1e-5)


def test_the_vae_has_its_own_weights_in_float32_beside_a_half_precision_denoiser(model, random_model):
    half = WanModel(Model(family="wan", weights=str(random_model), dtype="bfloat16", max_text_tokens=32), "cpu")
    assert {p.dtype for p in half.denoiser.parameters()} >= {torch.bfloat16}
    for name, value in model.pipe.vae.state_dict().items():
        assert torch.equal(half.pipe.vae.state_dict()[name], value), name


def test_noise_follows_from_the_seed_alone(model):
    assert torch.equal(model.draw_noise(4, SAMPLING), model.draw_noise(4, SAMPLING))
    assert not torch.equal(model.draw_noise(4, SAMPLING), model.draw_noise(5, SAMPLING))


def test_velocity_leads_from_noise_to_latents(model):
    latents, noise = torch.randn(2, 4, 2, 8, 8), torch.randn(2, 4, 2, 8, 8)
    level = torch.tensor([0.25, 0.9])
    noisy = model.add_noise(latents, noise, level)
    back = noisy - level.view(-1, 1, 1, 1, 1) * model.target(latents, noise, level)
    torch.testing.assert_close(back, latents, atol=1e-5, rtol=1e-5)


def test_encode_is_normalised_as_the_denoiser_sees_latents(model):
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    latents = model.encode(frames)
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        raw = model.pipe.vae.encode(pixels).latent_dist.mode()[0]
    torch.testing.assert_close(latents, (raw - 0.1) / 0.7, atol=1e-5, rtol=1e-5)


def test_a_fresh_lora_changes_nothing_to_the_bit(model):
    before = one_forward(model)
    model.add_lora(Lora(rank=4), seed=0)
    assert torch.equal(one_forward(model), before)


def test_reference_weights_switch_the_lora_off(model):
    before = one_forward(model)
    model.add_lora(Lora(rank=4), seed=0)
    disturb_adapter(model)
    assert not torch.equal(one_forward(model), before)
    with model.reference_weights():
        assert torch.equal(one_forward(model), before)


def test_load_lora_weights_of_the_plain_pipeline_gives_the_trainers_prediction(model, random_model, tmp_path):
    model.add_lora(Lora(rank=4), seed=0)
    disturb_adapter(model)
    model.save_adapter(tmp_path)
    noise, text = model.draw_noise(1, SAMPLING)[None], model.encode_prompt(PROMPT)[None]
    pipe = WanPipeline.from_pretrained(random_model)
    pipe.load_lora_weights(tmp_path)
    pipe.transformer.eval()
    with torch.no_grad():
        expected = pipe.transformer(noise, torch.tensor([700.0]), text, return_dict=False)[0]
    torch.testing.assert_close(one_forward(model), expected, rtol=0, atol=1e-5)


def test_a_saved_lora_can_be_trained_on(model, random_model, tmp_path):
    model.add_lora(Lora(rank=4), seed=0)
    disturb_adapter(model)
    expected = one_forward(model)
    model.save_adapter(tmp_path)
    other = WanModel(Model(family="wan", weights=str(random_model), dtype="float32", max_text_tokens=32), "cpu")
    other.add_lora(Lora(rank=4), seed=9)
    other.resume_lora(tmp_path)
    torch.testing.assert_close(one_forward(other), expected, rtol=0, atol=1e-6)
    assert any(parameter.requires_grad for parameter in other.denoiser.parameters())


def test_full_fine_tuning_is_saved_and_loaded_as_a_transformer(model, random_model, tmp_path):
    model.denoiser.requires_grad_(True)
    disturb_adapter(model)
    expected = one_forward(model)
    model.save_adapter(tmp_path)
    other = WanModel(Model(family="wan", weights=str(random_model), dtype="float32", max_text_tokens=32), "cpu")
    other.load_adapter(tmp_path)
    assert torch.equal(one_forward(other), expected)


@pytest.mark.parametrize(("key", "value"), [("height", 36), ("width", 20), ("num_frames", 6)])
def test_a_size_that_does_not_divide_is_refused(model, key, value):
    with pytest.raises(ValueError, match=r"generate\.sampling"):
        model.draw_noise(0, SAMPLING.model_copy(update={key: value}))
