"""What gradient checkpointing keeps and what it recomputes."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.families import TEXT_TOKENS
from videodpo.config import Model, TrainRuntime
from videodpo.dpo.policy import apply_memory_options
from videodpo.models import load_model

ATTENTION = "aten::_scaled_dot_product_flash_attention_for_cpu"


class Count(TorchDispatchMode):
    """Counts calls of attention and of matrix products."""

    def __init__(self):
        super().__init__()
        self.attention = self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__
        self.attention += "scaled_dot_product" in name and "backward" not in name
        self.products += name.startswith(("addmm", "mm"))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def denoise(random_model):
    """Function: mean of the squared prediction of one clip, and the model with the memory options of a trainer."""

    def prepared(train_runtime):
        settings = Model(family="wan", weights=str(random_model), dtype="float32", max_sequence_length=TEXT_TOKENS)
        model = load_model(settings, "cpu", parts={"denoiser"})
        model.denoiser.requires_grad_(True)
        apply_memory_options(model, train_runtime)
        draw = torch.Generator().manual_seed(0)
        text = {"prompt_embeds": torch.randn(1, TEXT_TOKENS, model.denoiser.config.text_dim, generator=draw)}
        clip = torch.randn(1, 4, 2, 8, 8, generator=draw)
        return model, lambda: model.predict(clip, torch.tensor([0.5]), text).square().mean()

    return prepared


@pytest.mark.parametrize(("kind", "attention"), [("off", 1), ("selective", 1), ("full", 2)])
def test_attention_is_recomputed_only_with_full_checkpointing(denoise, kind, attention):
    model, loss = denoise(TrainRuntime(gradient_checkpointing=kind))
    with Count() as count:
        found = loss()
        forward = count.products
        found.backward()
    layers = 2 * model.denoiser.config.num_layers  # self-attention of the clip, and attention to the text
    assert count.attention == attention * layers
    backward = count.products - forward
    assert (backward > 2.2 * forward) == (
        kind != "off"
    )  # two products per forward product, and one more if it is recomputed


@pytest.mark.parametrize(("kind", "attention"), [("off", 1), ("selective", 1), ("full", 2)])
def test_compiled_layers_keep_and_recompute_the_same(denoise, kind, attention):
    torch.compiler.reset()
    model, loss = denoise(TrainRuntime(gradient_checkpointing=kind, compile=True))
    with torch.no_grad():
        loss()  # compiles
        forward = calls(loss)
    loss().backward()  # compiles the backward pass
    both = calls(lambda: loss().backward())
    assert forward[ATTENTION] == 2 * model.denoiser.config.num_layers
    assert both[ATTENTION] == attention * forward[ATTENTION]
    assert (both["aten::addmm"] > 1.5 * forward["aten::addmm"]) == (kind != "off")


def calls(what):
    """Number of calls of each operator."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        what()
    return {event.key: event.count for event in profiled.key_averages()}


@pytest.mark.parametrize("kind", ["off", "selective", "full"])
def test_compiled_layers_change_no_gradient(denoise, kind):
    torch.compiler.reset()
    gradients = []
    for train_runtime in (
        TrainRuntime(gradient_checkpointing="off"),
        TrainRuntime(gradient_checkpointing=kind, compile=True),
    ):
        model, loss = denoise(train_runtime)
        loss().backward()
        gradients.append([weight.grad for weight in model.denoiser.parameters()])
    for plain, saved in zip(*gradients, strict=True):
        torch.testing.assert_close(saved, plain, rtol=1e-4, atol=1e-6)
