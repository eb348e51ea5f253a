"""A model family against its own diffusers pipeline, on a random model of the real classes.

The quick tier tests one family; tests/full/models/test_families.py tests all others.
"""

import inspect
import logging
from itertools import pairwise

import diffusers
import numpy as np
import pytest
import torch

from tests.support.doc_pages import read_blocks
from tests.support.families import FAMILIES, TEXT_TOKENS, write
from videodpo.config import Lora, Model, Timesteps
from videodpo.dpo.objectives import denoising_errors, diffusion_dpo_loss_from_errors
from videodpo.dpo.visits import draw_noise_level
from videodpo.models import make_schedule, sampler_noise_levels
from videodpo.models.base import collate
from videodpo.runtime import registry
from videodpo.runtime.logs import set_up_logs

ANY_LENGTH = ("text_to_video_sd", "videocrafter2", "t2v_turbo")
PROMPT, OTHER = "A red circle moves left on a gray background.", "A blue square."


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    return write(family, tmp_path_factory.mktemp("family"))


def settings_of(family, folder):
    return Model(family=family.family, weights=str(folder), dtype="float32", max_sequence_length=family.text_tokens)


@pytest.fixture
def load(family, folder):
    kind = registry.load("videodpo.models", family.family)
    settings = settings_of(family, folder)
    kind.check(settings, family.sampling)
    return lambda dtype="float32", **parts: kind(settings.model_copy(update={"dtype": dtype}), "cpu", **parts)


@pytest.fixture
def model(load):
    return load()


def plain(model, family, folder, **options):
    """Frames or latents of the plain pipeline from the same noise."""
    pipe = family.plain(folder)
    pipe.tokenizer_max_length = TEXT_TOKENS
    pipe.set_progress_bar_config(disable=True)
    return pipe, lambda seed: run_plain(pipe, model, family, seed, **options)


def run_plain(pipe, model, family, seed, **options):
    generator = torch.Generator("cpu").manual_seed(seed)
    noise = torch.randn(model.latent_shape(family.sampling), generator=generator)
    wanted = family.sampling
    arguments = {
        "prompt": PROMPT,
        "negative_prompt": wanted.negative_prompt,
        "height": wanted.height,
        "width": wanted.width,
        "num_frames": wanted.num_frames,
        "num_inference_steps": wanted.num_steps,
        "guidance_scale": wanted.guidance_scale,
        "max_sequence_length": TEXT_TOKENS,
        "latents": model.to_pipeline(noise[None]),
        "generator": [generator],
    }
    arguments = {name: value for name, value in arguments.items() if name not in family.without}
    return pipe(**arguments, **family.call, **options).frames


def load_into_unet(pipe, folder):
    """Run the snippet of docs/models.md for U-Nets without adapters in diffusers, at the rank of the tests."""
    (block,) = (block for block in read_blocks("docs/models.md") if block.language == "python")
    exec(block.text.replace("=64", "=4"), {"pipe": pipe, "folder": folder})


def texts(model, *prompts):
    return collate([model.encode_prompt(prompt) for prompt in prompts])


def one_forward(model, family):
    """Forward pass at two noise levels, one for each of two experts."""
    noise = torch.randn(2, *model.latent_shape(family.sampling), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return model.predict(noise, torch.tensor([0.8, 0.3]), texts(model, PROMPT, OTHER))


def train(model, family, steps=3, rate=1e-2):
    """Take steps of DPO on random latents; return the loss of each."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(4, *model.latent_shape(family.sampling), generator=generator)
    noise = torch.randn(latents[:2].shape, generator=generator).repeat(2, 1, 1, 1, 1)
    noise_level, text = torch.tensor([0.6, 0.9, 0.6, 0.9]), texts(model, PROMPT, OTHER, PROMPT, OTHER)
    noisy = model.noise_schedule.add_noise(latents, noise, noise_level)
    target = model.noise_schedule.target(latents, noise, noise_level)
    trained = [parameter for parameter in model.denoiser.parameters() if parameter.requires_grad]
    optimizer, losses = torch.optim.AdamW(trained, lr=rate), []
    with torch.no_grad(), model.reference_weights():
        reference = denoising_errors(model.predict(noisy, noise_level, text), target)
    for _ in range(steps):
        errors = denoising_errors(model.predict(noisy, noise_level, text), target)
        loss = diffusion_dpo_loss_from_errors(*errors.chunk(2), *reference.chunk(2), beta=100.0).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    return losses


def test_samples_equal_the_plain_pipelines(model, family, folder):
    latents = model.sample(texts(model, PROMPT, OTHER), [11, 12], family.sampling)
    _, sample = plain(model, family, folder, output_type="np")
    frames = model.decode(latents)[0]
    wanted = family.sampling
    assert frames.shape == (wanted.num_frames, wanted.height, wanted.width, 3)
    np.testing.assert_allclose(frames / 255.0, sample(11)[0], atol=0.5 / 255 + 1e-4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_forward_equals_the_pipelines_denoiser_call(load, family, monkeypatch, dtype, figures):
    calls, model, apart = [], load(dtype), 0.0

    def recorder(inner):
        def record(*args, **kwargs):
            out = inner(*args, **kwargs)
            calls.append((names.bind(*args, **kwargs).arguments, out[0]))
            return out

        names = inspect.signature(inner)

        return record

    for name in model.networks:
        if (network := getattr(model.pipe, name)) is not None:
            monkeypatch.setattr(network, "forward", recorder(network.forward))
    unguided = family.sampling.model_copy(update={"guidance_scale": 1.0})
    text = texts(model, PROMPT)
    model.sample(text, [2], unguided)
    monkeypatch.undo()
    assert len(calls) == family.sampling.num_steps
    for given, expected in calls:
        timestep = torch.as_tensor(given["timestep"]).reshape(-1)[:1]
        noise_level = (timestep.float() + 0.5 * (not timestep.is_floating_point())) / 1000
        noisy = model.from_pipeline(given.get("hidden_states", given.get("sample")), family.sampling)
        noisy = noisy[:, : model.latent_channels]  # without the channels that are concatenated
        with torch.no_grad():
            prediction = model.predict(noisy, noise_level, text)
        expected = model.from_pipeline(expected, family.sampling)
        torch.testing.assert_close(prediction, expected, rtol=0, atol=1e-5)
        apart = max(apart, float((prediction - expected).abs().max()))
    name = next(name for name, one in FAMILIES.items() if one is family)
    figures(f"forward pass, {name}, {dtype}", {"largest_difference": apart})


def test_match_sampler_draws_the_timesteps_of_the_pipelines_own_calls(model, family, folder):
    """400 draws against the timesteps of the denoiser's calls and their shares; with a flow shift, if supported."""
    sampling = family.sampling.model_copy(update={"flow_shift": 7.0 if model.takes_flow_shift else None})
    asked = []

    def record(module, arguments, options):
        timestep = options["timestep"] if "timestep" in options else arguments[1]
        asked.append(float(torch.as_tensor(timestep).reshape(-1)[0]))

    networks = [getattr(model.pipe, name) for name in model.networks]
    for network in [network for network in networks if network is not None]:
        network.register_forward_pre_hook(record, with_kwargs=True)
    model.sample(texts(model, PROMPT), [2], sampling.model_copy(update={"guidance_scale": 1.0}))
    settings = settings_of(family, folder)
    levels = sampler_noise_levels(settings, sampling)
    matched = Timesteps(distribution="match_sampler")
    drawn = torch.tensor([draw_noise_level(matched, seed, levels) for seed in range(400)])
    found = make_schedule(settings).timestep(drawn).double()
    nearest = (found[:, None] - torch.tensor(asked, dtype=torch.float64)).abs()
    assert float(nearest.min(dim=1).values.max()) <= 0.11  # pure noise is drawn as level 0.9999
    shares = torch.bincount(nearest.argmin(dim=1), minlength=len(asked)) / len(found)
    torch.testing.assert_close(shares, torch.full((len(asked),), 1 / len(asked)), rtol=0, atol=0.08)


def test_encoding_and_sampling_work_with_only_their_own_networks_loaded(load, model, family):
    """The text encoder alone encodes, and denoiser and VAE alone sample, with the bits of the entire model."""
    prompts = (PROMPT, family.sampling.negative_prompt)
    encoder = load(parts={"text"})
    own, negative = (encoder.encode_prompt(prompt) for prompt in prompts)
    for prompt, found in zip(prompts, (own, negative), strict=True):
        expected = model.encode_prompt(prompt)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)
    assert [name for name in ("vae", *model.networks) if getattr(encoder.pipe, name) is not None] == []
    sampler = load(parts={"denoiser", "vae"})
    assert sampler.pipe.text_encoder is None
    latents = sampler.sample(collate([own]), [4], family.sampling, negative)
    assert torch.equal(latents, model.sample(texts(model, PROMPT), [4], family.sampling))
    (frames,), (expected,) = sampler.decode(latents), model.decode(latents)
    assert np.array_equal(frames, expected)
    assert torch.equal(load(parts={"vae"}).encode(frames), model.encode(frames))


def test_a_clip_depends_on_its_own_seed_and_not_on_its_batch(model, family):
    together = model.sample(texts(model, PROMPT, PROMPT), [4, 5], family.sampling)
    alone = model.sample(texts(model, PROMPT), [4], family.sampling)
    torch.testing.assert_close(together[:1], alone, rtol=0, atol=1e-4)
    assert not torch.allclose(together[0], together[1])


def test_encoding_and_decoding_use_the_same_latent_scale(model, family):
    shape = (family.sampling.num_frames, family.sampling.height, family.sampling.width, 3)
    frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    latents = model.encode(frames)
    assert latents.shape == model.latent_shape(family.sampling)
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        raw = model.encode_raw(pixels)
    torch.testing.assert_close(model.unscale(latents[None]), raw, rtol=1e-5, atol=1e-5)


def test_the_schedule_is_the_schedulers(model, family):
    latents, noise = torch.randn(2, 1, *model.latent_shape(family.sampling)).unbind(0)
    scheduler, schedule = model.pipe.scheduler, model.noise_schedule
    if isinstance(scheduler, diffusers.FlowMatchEulerDiscreteScheduler):
        scheduler.set_timesteps(4, **({"mu": 1.0} if scheduler.config.use_dynamic_shifting else {}))
        # With the exact prediction, a step leads from noisy latents to less noisy ones.
        for first, second in pairwise(scheduler.timesteps):
            noise_level, lower = (timestep.view(1) / 1000 for timestep in (first, second))
            noisy, answer = (
                schedule.add_noise(latents, noise, noise_level),
                schedule.target(latents, noise, noise_level),
            )
            assert schedule.timestep(noise_level).item() == pytest.approx(first.item())
            found = scheduler.step(answer, first, noisy).prev_sample
            torch.testing.assert_close(found, schedule.add_noise(latents, noise, lower), rtol=0, atol=1e-5)
        return
    for noise_level in (torch.tensor([0.1]), torch.tensor([0.5]), torch.tensor([0.99])):
        timestep = schedule.timestep(noise_level)
        scaled = getattr(scheduler, "signal_scale", torch.ones(1000))[timestep] * latents
        expected = scheduler.add_noise(scaled, noise, timestep).float()
        torch.testing.assert_close(schedule.add_noise(latents, noise, noise_level), expected, rtol=0, atol=1e-5)
        expected = noise
        if scheduler.config.prediction_type == "v_prediction":
            expected = scheduler.get_velocity(latents, noise, timestep).float()
        torch.testing.assert_close(schedule.target(latents, noise, noise_level), expected, rtol=0, atol=1e-5)


def test_a_lora_is_trained_saved_and_loaded_by_the_plain_pipeline(load, family, folder, tmp_path):
    model = load()
    before = one_forward(model, family)
    # Only the adapter's dropout: the base has its own dropout, which stays off.
    model.add_lora(Lora(rank=4, dropout=0.5), seed=0)
    assert torch.equal(one_forward(model, family), before)
    assert train(model, family)[0] == pytest.approx(np.log(2), abs=1e-5)
    with model.reference_weights():
        assert torch.equal(one_forward(model, family), before)
    model.denoiser.eval()
    model.save_adapter(tmp_path)
    pipe, sample = plain(model, family, folder, output_type="latent")
    base = sample(7)
    if family.family == "text_to_video_sd":
        load_into_unet(pipe, tmp_path)
    elif hasattr(pipe, "load_lora_weights"):
        pipe.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    else:
        pipe.transformer.load_lora_adapter(tmp_path, weight_name="pytorch_lora_weights.safetensors", prefix=None)
    if len(model._trained()) > 1:
        second = "pytorch_lora_weights_2.safetensors"
        pipe.load_lora_weights(tmp_path, weight_name=second, load_into_transformer_2=True)
    expected = sample(7)
    assert not torch.allclose(base, expected, atol=1e-3)
    other = load()
    other.load_adapter(tmp_path)
    found = other.sample(texts(other, PROMPT), [7], family.sampling)
    torch.testing.assert_close(found, other.from_pipeline(expected, family.sampling), rtol=0, atol=1e-4)
    resumed = load()
    resumed.add_lora(Lora(rank=4), seed=9)
    resumed.resume_lora(tmp_path)
    torch.testing.assert_close(one_forward(resumed, family), one_forward(model, family), rtol=0, atol=1e-5)


def test_loading_and_a_lora_log_nothing(load, caplog, recwarn):
    set_up_logs(is_stage=True)
    libraries = [
        logging.getLogger(name) for name in ("diffusers", "transformers")
    ]  # their records do not propagate to the root logger
    for library in libraries:
        library.addHandler(caplog.handler)
    load().add_lora(Lora(rank=2), seed=0)
    for library in libraries:
        library.removeHandler(caplog.handler)
    assert caplog.messages == []
    assert [str(one.message) for one in recwarn] == []


def test_full_fine_tuning_is_saved_and_loaded(load, family, tmp_path):
    model = load()
    model.keep_reference()
    model.denoiser.requires_grad_(True)
    losses = train(model, family, rate=1e-3)
    assert losses[0] == pytest.approx(np.log(2), abs=1e-5)
    assert losses[-1] < losses[0]
    model.save_adapter(tmp_path)
    other = load()
    other.load_adapter(tmp_path)
    trained = model.denoiser.state_dict()
    assert all(torch.equal(weight, trained[name]) for name, weight in other.denoiser.state_dict().items())
    # On some processors, the memory addresses of weights decide in which order their products are summed.
    torch.testing.assert_close(one_forward(other, family), one_forward(model, family), rtol=0, atol=1e-5)
    for name in model._trained():  # with diffusers alone, for any pipeline
        network = getattr(model.pipe, name)
        kind = getattr(diffusers, type(network).__name__, type(network))  # VideoCrafter's U-Net is not in diffusers
        plainly = kind.from_pretrained(tmp_path / name).state_dict()
        assert all(torch.equal(plainly[key], weight) for key, weight in network.state_dict().items())


def test_a_size_that_does_not_divide_is_refused(family, folder):
    kind, settings = registry.load("videodpo.models", family.family), settings_of(family, folder)
    keys = ["height", "width"] + ["num_frames"] * (family.family not in ANY_LENGTH)
    for key in keys:
        wrong = family.sampling.model_copy(update={key: getattr(family.sampling, key) + 1})
        with pytest.raises(ValueError, match=r"generate\.sampling: .* multiples of"):
            kind.check(settings, wrong)


def test_repeated_layers_for_compilation_and_sharding_are_found(model):
    for name in model.networks:
        if network := getattr(model.pipe, name):
            found = {type(part).__name__ for part in network.modules()}
            assert found & set(network._repeated_blocks)
            assert found >= set(network._no_split_modules)  # otherwise accelerate refuses


def test_tokens_that_cannot_be_split_are_refused(model, family):
    if family.family == "wan":  # two heads cannot be split among three processes
        with pytest.raises(ValueError, match="context_parallel: 3 does not divide the 2 heads"):
            model.enable_context_parallel(3)
    else:
        with pytest.raises(ValueError, match=r"context_parallel: 2, but .* use 1"):
            model.enable_context_parallel(2)


def test_gradient_checkpointing_changes_nothing(load, family):
    losses = []
    for checkpointing in (False, True):
        model = load()
        model.add_lora(Lora(rank=4), seed=0)
        if checkpointing:
            model.denoiser.enable_gradient_checkpointing()
        model.denoiser.train()
        torch.manual_seed(0)  # dropout
        losses.append(train(model, family))
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
