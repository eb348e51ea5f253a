"""Check that the adapter's `predict` calls the denoiser as the pipeline does while it samples.

Legend: B batch, C latent channel, F latent frame, H latent height, W latent width; L text token.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch

from videodpo.config import Sampling
from videodpo.dpo.findings import Finding, grade
from videodpo.dpo.policy import without_dropout
from videodpo.models.base import PromptEmbeds, VideoModel
from videodpo.models.shared.pipeline_model import PipelineModel

# Sampling steps of the trial: enough to call each of two experts.
NUM_STEPS = 3
SEED = 0
# Largest accepted difference, in standard deviations of the pipeline's output. Float32 rounding leaves 1e-6. In
# bfloat16 the output is rounded to 1/256 of itself, and intermediate values are rounded in another order.
ROUNDED, ROUNDED_BELOW_FLOAT32 = 1e-5, 5e-2


class Call(NamedTuple):
    """Arguments of one call of a network, by name, and its output."""

    arguments: Mapping[str, Any]
    answer: torch.Tensor


def check_forward(model: VideoModel, text: PromptEmbeds, sampling: Sampling) -> Finding:
    """Sample a clip without guidance, then call `predict` with the same latents, noise levels and text, and compare.

    Args:
        text: embedding of one prompt, [1, L, ...].
        sampling: size of the clip.
    """
    expected = "the pipeline's own outputs"
    if not isinstance(model, PipelineModel):
        return Finding("forward", "fine", "not compared, this family does not derive from PipelineModel", expected)
    trial = sampling.model_copy(update={"num_steps": NUM_STEPS, "guidance_scale": 1.0})
    with without_dropout(model), _recorded(model.denoiser) as calls:
        model.sample(text, [SEED], trial)
    if not calls:
        advice = "The training would train another network than the one that samples: fix the family's make_denoiser."
        return Finding("forward", "alarm", "the pipeline never called model.denoiser", expected, advice)
    with without_dropout(model):
        compared = [_compare(model, call, text, trial) for call in calls]
    largest = float(np.max([off for off, _ in compared]))  # NaN if any of them is
    differing = sorted(set().union(*(names for _, names in compared)))
    limit = ROUNDED if model.dtype == torch.float32 else ROUNDED_BELOW_FLOAT32
    measured = f"{len(calls)} outputs of predict are off by at most {largest:.2g} standard deviations"
    if differing and not largest <= limit:
        measured += f" (differing inputs: {', '.join(differing)})"
    advice = "The training would call the denoiser differently than sampling does: fix the family's predict."
    return Finding("forward", grade(largest, limit, limit), measured, f"{expected}, to {limit:g}", advice, largest)


def _compare(model: PipelineModel, call: Call, text: PromptEmbeds, sampling: Sampling) -> tuple[float, set[str]]:
    """Difference of the outputs in standard deviations, and the names of the arguments that differ."""
    timestep = torch.as_tensor(call.arguments["timestep"]).reshape(-1)[0].float().cpu()
    level_1 = torch.tensor([model.noise_schedule.noise_level(float(timestep))])
    arguments = call.arguments["hidden_states"] if "hidden_states" in call.arguments else call.arguments["sample"]
    channels, *_ = model.latent_shape(sampling)
    # Some families concatenate additional channels to the latents.
    noisy_1CFHW = model.from_pipeline(arguments, sampling)[:, :channels]
    with model.precision(), _recorded(model.denoiser) as calls:
        found = model.predict(noisy_1CFHW, level_1.to(model.device), text).float()
    answer = model.from_pipeline(call.answer, sampling).float()
    off = float((found - answer).abs().max() / answer.std()) if found.shape == answer.shape else float("inf")
    ours = calls[0].arguments if calls else {}
    return off, {name for name, value in call.arguments.items() if not _is_same(value, ours.get(name))}


def _is_same(one: Any, other: Any) -> bool:
    if not isinstance(one, torch.Tensor):  # the pipeline may pass an option or leave it at its default
        return True
    if not isinstance(other, torch.Tensor) or one.shape != other.shape:
        return False
    return torch.allclose(one.float(), other.float(), rtol=1e-4, atol=1e-4)


@contextmanager
def _recorded(denoiser: torch.nn.Module) -> Iterator[list[Call]]:
    """Record the calls of the denoiser; the list is filled when the block ends.

    If the denoiser bundles networks that the pipeline calls directly, record their calls instead.
    """
    calls: list[Call] = []
    found: list[tuple[bool, Call]] = []
    depth = 0

    def enter(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        nonlocal depth
        depth += 1

    def leave(module: torch.nn.Module, args: Any, kwargs: Any, answer: Any) -> None:
        nonlocal depth
        depth -= 1
        if not depth:
            arguments = inspect.signature(module.forward).bind(*args, **kwargs).arguments
            arguments |= arguments.pop("inputs", {})  # passed by name through **inputs
            found.append((module is denoiser, Call(arguments, answer[0])))

    modules = (denoiser, *denoiser.children())
    handles = [module.register_forward_pre_hook(enter, with_kwargs=True) for module in modules]
    handles += [module.register_forward_hook(leave, with_kwargs=True) for module in modules]
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()
        calls += [call for is_whole, call in found if is_whole == any(whole for whole, _ in found)]
