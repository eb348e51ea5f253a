"""Dropout of the policy's parts in training and validation."""

import pytest
import torch

from tests.support.families import FAMILIES, write
from videodpo.config import Lora, Model
from videodpo.dpo.policy import all_dropout, trainable, without_dropout
from videodpo.models import load_model

FAMILY = FAMILIES["text_to_video_sd"]  # its U-Net has its own dropout


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write(FAMILY, tmp_path_factory.mktemp("unet"))
    settings = Model(family=FAMILY.family, weights=str(folder), dtype="float32", max_sequence_length=FAMILY.text_tokens)
    model = load_model(settings, "cpu")
    model.add_lora(Lora(rank=4, dropout=0.5), seed=0)
    for weight in trainable(model).values():
        torch.nn.init.normal_(weight)
    return model


def predict(model):
    torch.manual_seed(0)
    noisy = torch.randn(1, *model.latent_shape(FAMILY.sampling))
    text = {name: tensor[None] for name, tensor in model.encode_prompt("A red circle.").items()}
    first, second = (model.predict(noisy, torch.tensor([0.5]), text) for _ in range(2))
    return first, second


def test_the_adapters_dropout_is_active_in_training_and_not_in_validation(model):
    first, second = predict(model)
    assert not torch.equal(first, second)
    with without_dropout(model):
        first, second = predict(model)
    assert torch.equal(first, second)
    assert not first.requires_grad
    assert not torch.equal(*predict(model))


def test_the_base_has_dropout_only_with_the_released_codes_quirk(model):
    with torch.no_grad(), model.reference_weights():
        first, second = predict(model)
        assert torch.equal(first, second)
        with all_dropout(model):
            first, second = predict(model)
        assert not torch.equal(first, second)
        assert torch.equal(*predict(model))
