"""A LoRA of every kind is saved by the training and loaded into the plain pipeline at the right scale."""

import diffusers
import pytest
import torch
from safetensors.torch import load_file

from tests.support.families import TEXT_TOKENS
from videodpo.config import Lora, Model
from videodpo.config.errors import InputError
from videodpo.models.base import ALL_PARTS
from videodpo.models.wan import WanModel

KINDS = {
    "alpha": {"alpha": 16.0},
    "rslora": {"rslora": True},
    "dora": {"dora": True},
    "all": {"alpha": 2.0, "rslora": True, "dora": True},
}


def load(folder, dtype="float32", **options):
    settings = Model(family="wan", weights=str(folder), dtype=dtype, max_sequence_length=TEXT_TOKENS)
    return WanModel(settings, "cpu", **options)


def forward(model):
    torch.manual_seed(0)
    text = {"prompt_embeds": torch.randn(1, TEXT_TOKENS, model.denoiser.config.text_dim)}
    with torch.no_grad():
        return model.predict(torch.randn(1, 4, 2, 8, 8), torch.tensor([0.5]), text)


@pytest.mark.parametrize(("kind", "dtype"), [("all", "float32"), ("dora", "bfloat16"), ("all", "float16")])
def test_a_fresh_adapter_of_this_kind_equals_the_base_bit_for_bit(random_model, kind, dtype):
    model = load(random_model, dtype, parts={"denoiser"})
    base = forward(model)
    model.add_lora(Lora(rank=4, **KINDS[kind]), seed=0)
    assert torch.equal(forward(model), base)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lora_of_this_kind_is_loaded_at_its_scale(random_model, tmp_path, kind):
    model = load(random_model, parts={"denoiser"})
    base = forward(model)
    lora = Lora(rank=4, **KINDS[kind])
    model.add_lora(lora, seed=0)
    torch.testing.assert_close(forward(model), base, rtol=0, atol=1e-5)
    for name, weight in model.denoiser.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
        elif "magnitude" in name:
            weight.data.mul_(1.1)
    expected = forward(model)
    assert (expected - base).abs().max() > 1e-2
    model.save_adapter(tmp_path)
    plain = diffusers.WanPipeline.from_pretrained(random_model)
    plain.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    loaded = load(random_model)
    loaded.denoiser = plain.transformer.eval()
    torch.testing.assert_close(forward(loaded), expected, rtol=0, atol=1e-5)
    resumed = load(random_model, parts={"denoiser"})
    resumed.add_lora(lora, seed=9)
    resumed.resume_lora(tmp_path)
    torch.testing.assert_close(forward(resumed), expected, rtol=0, atol=1e-6)
    assert any("magnitude" in name for name in load_file(tmp_path / "pytorch_lora_weights.safetensors")) == lora.dora


def test_a_damaged_adapter_is_refused_with_its_name(random_model, tmp_path):
    model = load(random_model, parts={"denoiser"})
    model.add_lora(Lora(rank=2), seed=0)
    model.save_adapter(tmp_path)
    file = tmp_path / "pytorch_lora_weights.safetensors"
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"pytorch_lora_weights\.safetensors: not an adapter of this model"):
        load(random_model).load_adapter(tmp_path)


@pytest.mark.parametrize("parts", [ALL_PARTS, {"denoiser"}])
def test_mixed_precision_keeps_float32_weights_and_multiplies_in_bfloat16(random_model, parts):
    settings = Model(
        family="wan", weights=str(random_model), dtype="bfloat16", mixed_precision=True, max_sequence_length=TEXT_TOKENS
    )
    model = WanModel(settings, "cpu", parts=parts)
    assert {weight.dtype for weight in model.denoiser.parameters()} == {torch.float32}
    with model.precision():
        found = forward(model)
    expected = forward(load(random_model))
    assert found.dtype == torch.bfloat16
    difference = (found.float() - expected).abs().max()
    assert 0 < difference < 0.05
