"""CogVideoX's sampling against a loop over the scheduler and the denoiser, and against its pipeline."""

import math

import diffusers
import pytest
import torch

from tests.models.test_families import PROMPT, plain, run_plain, settings_of, texts
from tests.support.families import FAMILIES, write
from videodpo.config.errors import ConfigError, InputError
from videodpo.models.cogvideox import CogVideoXModel
from videodpo.models.shared.cogvideox_pipeline import growing_guidance

SEED = 11


@pytest.fixture(scope="module")
def family():
    return FAMILIES["cogvideox-2b"]


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return write(family, tmp_path_factory.mktemp("family"))


def load(family, folder, **options):
    return CogVideoXModel(settings_of(family, folder).model_copy(update={"options": options}), "cpu")


def test_guidance_grows_from_1_to_the_last_step():
    scales = [growing_guidance(6.0, step, 50) for step in range(50)]
    assert scales[0] == 1.0
    assert scales == sorted(scales)
    assert scales[25] == pytest.approx(1 + 3 * (1 - math.cos(math.pi / 32)))
    assert scales[-1] == pytest.approx(6.9, abs=0.05)


def test_dynamic_guidance_follows_the_step(family, folder):
    model = load(family, folder, dynamic_guidance=True)
    found = model.sample(texts(model, PROMPT), [SEED], family.sampling)
    pipe, constant = plain(model, family, folder, output_type="latent")
    text, negative = (model.encode_prompt(words)["prompt_embeds"] for words in (PROMPT, "blurred"))
    noise = torch.randn(model.latent_shape(family.sampling), generator=torch.Generator().manual_seed(SEED))
    latents, num_steps = model.to_pipeline(noise[None]), family.sampling.num_steps
    pipe.scheduler.set_timesteps(num_steps)
    for step, timestep in enumerate(pipe.scheduler.timesteps):
        with torch.no_grad():
            answer = pipe.transformer(latents.repeat(2, 1, 1, 1, 1), torch.stack([negative, text]), timestep.expand(2))
        without, guided = answer.sample.chunk(2)
        scale = 1 + family.sampling.guidance_scale * (1 - math.cos(math.pi * (step / num_steps) ** 5)) / 2
        latents = pipe.scheduler.step(without + scale * (guided - without), timestep, latents).prev_sample
    torch.testing.assert_close(found, model.from_pipeline(latents, family.sampling), rtol=0, atol=1e-4)
    assert not torch.allclose(latents, constant(SEED), atol=1e-2)


@pytest.mark.parametrize(
    ("name", "kind"), [("ddim", diffusers.CogVideoXDDIMScheduler), ("dpm", diffusers.CogVideoXDPMScheduler)]
)
def test_the_scheduler_is_the_named_one(family, folder, name, kind):
    model = load(family, folder, scheduler=name)
    found = model.sample(texts(model, PROMPT), [SEED], family.sampling)
    pipe, _ = plain(model, family, folder, output_type="latent")
    pipe.scheduler = kind.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    expected = run_plain(pipe, model, family, SEED, output_type="latent")
    torch.testing.assert_close(found, model.from_pipeline(expected, family.sampling), rtol=0, atol=1e-4)
    assert isinstance(model.pipe.scheduler, kind)


def test_another_scheduler_is_refused(family, folder):
    with pytest.raises(ConfigError, match=r"model\.options\.scheduler: 'euler'"):
        load(family, folder, scheduler="euler")


def test_dynamic_guidance_without_guidance_is_refused(family, folder):
    settings = settings_of(family, folder).model_copy(update={"options": {"dynamic_guidance": True}})
    unguided = family.sampling.model_copy(update={"guidance_scale": 1.0})
    with pytest.raises(InputError, match=r"model\.options\.dynamic_guidance: true, but"):
        CogVideoXModel.check(settings, unguided)


def test_the_empty_prompt_is_zeros_as_in_its_training(family, folder):
    model = load(family, folder)
    empty = model.encode_prompt("")["prompt_embeds"]
    assert empty.shape == model.encode_prompt(PROMPT)["prompt_embeds"].shape
    assert not empty.any()
    unnamed = family.sampling.model_copy(update={"negative_prompt": ""})
    found = model.sample(texts(model, PROMPT), [SEED], unnamed)
    pipe, _ = plain(model, family, folder)
    noise = torch.randn(model.latent_shape(unnamed), generator=torch.Generator().manual_seed(SEED))
    common = {name: getattr(unnamed, name) for name in ("height", "width", "num_frames", "guidance_scale")}
    expected = pipe(
        prompt_embeds=model.encode_prompt(PROMPT)["prompt_embeds"][None],
        negative_prompt_embeds=torch.zeros_like(empty)[None],
        latents=model.to_pipeline(noise[None]),
        num_inference_steps=unnamed.num_steps,
        output_type="latent",
        **common,
    ).frames
    torch.testing.assert_close(found, model.from_pipeline(expected, unnamed), rtol=0, atol=1e-4)
