"""Training of T2V-Turbo's distilled LoRA itself."""

import pytest
import torch

from tests.models.test_families import PROMPT, one_forward, run_plain, settings_of, texts, train
from tests.support.families import FAMILIES, write
from tests.support.videocrafter2 import make_turbo
from videodpo.config import Lora
from videodpo.config.errors import InputError
from videodpo.models.shared.t2v_turbo_pipeline import T2VTurboPipeline
from videodpo.models.t2v_turbo import T2VTurboModel

FAMILY = FAMILIES["t2v_turbo"]
RANK = 2  # of the file


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(FAMILY, tmp_path_factory.mktemp("family"))


def load(folder, distilled_lora="trained", lora=None):
    settings = settings_of(FAMILY, folder).model_copy(update={"options": {"distilled_lora": distilled_lora}})
    model = T2VTurboModel(settings, "cpu")
    if lora:
        model.add_lora(lora, seed=0)
    return model


def trainable(model):
    return {name: value for name, value in model.denoiser.named_parameters() if value.requires_grad}


def in_the_files_order(model):
    """The trained LoRA in its authors' format: up and down matrix of every layer."""
    found = []
    for name in model.pipe.lora_layers:
        layer = model.denoiser.get_submodule(name)
        found += [layer.lora_B["default"].weight.detach(), layer.lora_A["default"].weight.detach()]
    return found


def test_training_starts_from_the_file_and_equals_the_reference(folder):
    model, distilled = load(folder, lora=Lora(rank=RANK)), load(folder, "fixed")
    for found, expected in zip(in_the_files_order(model), make_turbo()["unet_lora.pt"], strict=True):
        assert torch.equal(found, expected)
    torch.testing.assert_close(one_forward(model, FAMILY), one_forward(distilled, FAMILY), rtol=0, atol=1e-5)
    with model.reference_weights():
        assert torch.equal(one_forward(model, FAMILY), one_forward(distilled, FAMILY))


def test_its_two_adapters_are_added_without_a_warning(folder, recwarn):
    load(folder, lora=Lora(rank=RANK))
    assert [str(one.message) for one in recwarn] == []


def test_only_the_distilled_lora_is_trained_before_and_after_a_reference_pass(folder):
    model = load(folder, lora=Lora(rank=RANK))
    before = trainable(model)
    with model.reference_weights():
        pass
    assert list(before) == list(trainable(model))
    assert len(before) == len(make_turbo()["unet_lora.pt"])
    assert all(".default." in name for name in before)


def test_the_trained_tensors_correspond_to_the_authors_file(folder, tmp_path):
    """T2V-Turbo equals the policy with the trained tensors in its file, and with the saved adapter."""
    model = load(folder, lora=Lora(rank=RANK))
    base = one_forward(model, FAMILY)
    train(model, FAMILY)
    policy = one_forward(model, FAMILY)
    assert not torch.allclose(policy, base, atol=1e-3)
    torch.save(in_the_files_order(model), tmp_path / "unet_lora.pt")
    model.save_adapter(tmp_path / "adapter")
    samples = []
    for lora, adapter in ((tmp_path / "unet_lora.pt", None), (folder / "unet_lora.pt", tmp_path / "adapter")):
        pipe = T2VTurboPipeline.from_originals(folder / "model.ckpt", lora)
        pipe.set_progress_bar_config(disable=True)
        if adapter:
            pipe.load_lora_weights(adapter, weight_name="pytorch_lora_weights.safetensors")
        samples.append(run_plain(pipe, model, FAMILY, 7, output_type="latent"))
    torch.testing.assert_close(*samples, rtol=0, atol=1e-4)
    other = load(folder)
    other.load_adapter(tmp_path / "adapter")
    found = other.sample(texts(other, PROMPT), [7], FAMILY.sampling)
    torch.testing.assert_close(found, samples[0], rtol=0, atol=1e-4)
    torch.testing.assert_close(one_forward(other, FAMILY), policy, rtol=0, atol=1e-5)


def test_a_later_round_starts_from_the_trained_lora(folder, tmp_path):
    model = load(folder, lora=Lora(rank=RANK))
    for value in trainable(model).values():
        value.data += 0.01
    model.save_adapter(tmp_path)
    resumed = load(folder, lora=Lora(rank=RANK))
    resumed.resume_lora(tmp_path)
    found = trainable(resumed)
    for name, value in trainable(model).items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize(
    ("lora", "key"),
    [({"rank": 4}, "rank: 4"), ({"alpha": 1.0}, "alpha: 1.0"), ({"target_modules": ["to_q"]}, "target")],
)
def test_lora_settings_other_than_the_files_are_refused(folder, lora, key):
    with pytest.raises(InputError, match=rf"train\.lora\.{key}.*distilled_lora: trained trains unet_lora\.pt, which"):
        load(folder, lora=Lora(**{"rank": RANK} | lora))
