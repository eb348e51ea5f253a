"""VideoCrafter2 against recorded results of its authors' code."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support import videocrafter2
from videodpo.models.shared.t2v_turbo_pipeline import T2VTurboPipeline, consistency_timesteps, with_lora
from videodpo.models.shared.videocrafter_pipeline import (
    PenultimateText,
    VideoCrafterPipeline,
    VideoCrafterScheduler,
)
from videodpo.models.shared.videocrafter_unet import VideoCrafterUNet


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("videocrafter2") / "model.ckpt"
    torch.manual_seed(0)
    torch.save(videocrafter2.make()["model.ckpt"], path)
    return VideoCrafterPipeline.from_original(path)


def test_the_network_gives_the_recorded_output(pipe, figures):
    with np.load(videocrafter2.RECORDED) as recorded:
        x, timesteps, text, expected = (
            torch.from_numpy(recorded[k]) for k in ("x", "timesteps", "context", "out_fps16")
        )
    with torch.no_grad():
        found = pipe.unet.eval()(x, timesteps, encoder_hidden_states=text, fps=torch.full((2,), 16), return_dict=False)[
            0
        ]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    apart = float((found - expected).abs().max())
    figures("videocrafter2's network against the original's recorded output", {"largest_difference": apart})


def test_the_published_size_has_1413_million_weights():
    with torch.device("meta"):
        unet = VideoCrafterUNet()
    assert round(sum(weight.numel() for weight in unet.parameters()) / 1e6) == 1413


def test_the_frame_rate_changes_the_output(pipe):
    x, text = torch.randn(1, 4, 2, 8, 8), torch.randn(1, 5, videocrafter2.WIDTH)
    with torch.no_grad():
        slow, fast = (pipe.unet(x, torch.tensor(3), encoder_hidden_states=text, fps=torch.tensor([r])) for r in (8, 28))
    assert not torch.allclose(slow.sample, fast.sample, atol=1e-3)


def test_a_sampler_step_follows_the_formula():
    scheduler = VideoCrafterScheduler()
    scheduler.set_timesteps(50)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas = (1 - betas).cumprod(0)
    scale = torch.cat([torch.linspace(1, 0.7, 400, dtype=torch.float64), torch.full((600,), 0.7, dtype=torch.float64)])
    assert scheduler.timesteps.tolist() == [20 * k + 1 for k in reversed(range(50))]
    sample, noise = torch.randn(2, 1, 4, 2, 8, 8).unbind(0)
    for t in (981, 401, 221, 21, 1):
        before = max(t - 20, 0)
        clean = (sample - (1 - alphas[t]).sqrt() * noise) / alphas[t].sqrt() / scale[t]
        spread = ((1 - alphas[before]) / (1 - alphas[t]) * (1 - alphas[t] / alphas[before])).sqrt()
        direction = (1 - alphas[before] - spread**2).sqrt() * noise
        fresh = torch.randn(sample.shape, generator=torch.Generator().manual_seed(5))
        expected = alphas[before].sqrt() * scale[before] * clean + direction + spread * fresh
        generator = torch.Generator().manual_seed(5)
        found = scheduler.step(noise, torch.tensor(t), sample, eta=1.0, generator=generator).prev_sample
        torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-5)


def test_texts_are_the_penultimate_layer_with_the_final_norm():
    torch.manual_seed(0)
    tower = videocrafter2.text_tower().eval()
    tokens = torch.randint(1, 1000, (2, 77))
    with torch.no_grad():
        found = PenultimateText(tower)(tokens)
        states = tower.token_embedding(tokens) + tower.positional_embedding
        mask = torch.full((77, 77), float("-inf")).triu(1)
        for block in list(tower.transformer.resblocks)[:-1]:
            states = block(states, attn_mask=mask)
        expected = tower.ln_final(states)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_the_vae_has_every_tensor_under_the_right_name(pipe):
    """Loading refuses a wrong name, but not two swapped tensors of the same shape."""
    places = {
        "encoder.down.0.block.0.conv1.weight": "encoder.down_blocks.0.resnets.0.conv1.weight",
        "decoder.up.3.block.1.conv2.weight": "decoder.up_blocks.0.resnets.1.conv2.weight",
        "decoder.up.0.block.0.norm1.bias": "decoder.up_blocks.3.resnets.0.norm1.bias",
    }
    torch.manual_seed(0)
    original = videocrafter2.make()["model.ckpt"]["state_dict"]
    for theirs, ours in places.items():
        assert torch.equal(pipe.vae.state_dict()[ours], original[f"first_stage_model.{theirs}"]), theirs


@pytest.mark.parametrize("name", ["model.diffusion_model.out.2.weight", "cond_stage_model.model.ln_final.bias"])
def test_a_file_without_one_tensor_is_refused_by_name(tmp_path, name):
    file = videocrafter2.make()["model.ckpt"]
    del file["state_dict"][name]
    torch.save(file, tmp_path / "model.ckpt")
    with pytest.raises(ValueError, match="not VideoCrafter2's tensors"):
        VideoCrafterPipeline.from_original(tmp_path / "model.ckpt")


def test_a_turbo_lora_is_added_to_the_layers_in_their_order():
    tensors = {f"model.diffusion_model.{name}": value for name, value in videocrafter2.unet_tensors().items()}
    lora = [value.detach() for value in videocrafter2.make_turbo()["unet_lora.pt"]]
    found = with_lora(tensors, lora, Path("unet_lora.pt"))
    for number, (name, shape) in enumerate(videocrafter2.turbo_layers()):
        up, down = lora[2 * number : 2 * number + 2]
        change = torch.einsum("or,ri->oi", up.flatten(1), down.flatten(1)).view(shape)
        before = tensors.get(f"model.diffusion_model.{name}", torch.zeros(shape))
        torch.testing.assert_close(found[f"model.diffusion_model.{name}"], before + change)
    untouched = tensors.keys() - {f"model.diffusion_model.{name}" for name, _ in videocrafter2.turbo_layers()}
    assert all(torch.equal(found[name], tensors[name]) for name in untouched)
    assert any("init_attn.0.proj_in" in name for name in untouched)  # a convolution of one dimension


@pytest.mark.parametrize("change", [lambda lora: lora[:-2], lambda lora: [*lora[2:], *lora[:2]]])
def test_a_lora_that_does_not_fit_is_refused(change):
    tensors = {f"model.diffusion_model.{name}": value for name, value in videocrafter2.unet_tensors().items()}
    lora = [value.detach() for value in videocrafter2.make_turbo()["unet_lora.pt"]]
    with pytest.raises(ValueError, match=r"unet_lora\.pt: "):
        with_lora(tensors, change(lora), Path("unet_lora.pt"))


def test_consistency_sampling_takes_every_twelfth_trained_timestep():
    assert consistency_timesteps(4) == [999, 759, 519, 279]
    assert consistency_timesteps(8) == [999, 879, 759, 639, 519, 399, 279, 159]
    assert len(consistency_timesteps(50)) == 50


def test_the_guidance_changes_turbos_output(tmp_path):
    torch.manual_seed(0)
    for name, content in videocrafter2.make_turbo().items():
        torch.save(content, tmp_path / name)
    pipe = T2VTurboPipeline.from_originals(tmp_path / "model.ckpt", tmp_path / "unet_lora.pt")
    pipe.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 2, 8, 8)
    options = {"latents": noise, "output_type": "latent"}
    low, high = (
        pipe("a cat", guidance=guidance, generator=torch.Generator().manual_seed(1), **options).frames
        for guidance in (1.0, 7.5)
    )
    assert not torch.allclose(low, high, atol=1e-4)
