"""What only HunyuanVideo 1.5 has: a text stream in its LoRA, and timesteps in float32."""

import pytest
import torch

from tests.models.test_families import PROMPT, settings_of, texts
from tests.support.families import FAMILIES, write
from videodpo.config import Lora
from videodpo.models.hunyuan_video15 import HunyuanVideo15Model

FAMILY = FAMILIES["hunyuan_video15"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(FAMILY, tmp_path_factory.mktemp("family"))


def load(folder, dtype):
    return HunyuanVideo15Model(settings_of(FAMILY, folder).model_copy(update={"dtype": dtype}), "cpu")


def test_a_lora_adapts_exactly_the_linear_layers_of_the_blocks(folder):
    model = load(folder, "float32")
    layers = {
        name
        for name, layer in model.denoiser.named_modules()
        if name.startswith("transformer_blocks.") and isinstance(layer, torch.nn.Linear) and ".norm1" not in name
    }
    model.add_lora(Lora(rank=2), seed=0)
    adapted = {name.partition(".lora_A")[0] for name, _ in model.denoiser.named_parameters() if ".lora_A" in name}
    assert adapted == layers
    assert len(adapted) == 12 * model.denoiser.config.num_layers


def test_named_layers_are_adapted_also_outside_the_blocks(folder):
    model = load(folder, "float32")
    model.add_lora(Lora(rank=2, target_modules=["to_q"]), seed=0)
    adapted = [name for name, _ in model.denoiser.named_parameters() if ".lora_A" in name]
    assert any(name.startswith("context_embedder.") for name in adapted)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_sampler_passes_the_timesteps_of_the_scheduler(folder, dtype):
    model = load(folder, dtype)
    text = texts(model, PROMPT)
    sampling = FAMILY.sampling.model_copy(update={"num_steps": 7})
    embedder = model.pipe.transformer.time_embed
    found = []
    embedder.register_forward_pre_hook(lambda module, args: found.append(args[0]))
    model.sample(text, [1], sampling)
    scheduled = model.pipe.scheduler.timesteps
    assert [float(timestep[0]) for timestep in found] == [float(step) for step in scheduled for _ in range(2)]
    assert {timestep.dtype for timestep in found} == {torch.float32}


def test_a_bfloat16_model_distinguishes_timesteps_that_bfloat16_does_not(folder):
    model = load(folder, "bfloat16")
    found = []
    model.pipe.transformer.time_embed.time_proj.register_forward_hook(lambda module, args, out: found.append(out))
    noise = torch.randn(1, *model.latent_shape(FAMILY.sampling))
    with torch.no_grad():
        for level in (0.9961, 0.9964):
            prediction = model.predict(noise, torch.tensor([level]), texts(model, PROMPT))
    assert prediction.dtype == torch.bfloat16
    assert not torch.equal(*found)
