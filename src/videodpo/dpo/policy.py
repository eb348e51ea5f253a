"""The configured model as the policy: its trainable weights, what saves memory in its passes, and its saved form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from videodpo.config import TrainRuntime
from videodpo.config.errors import InputError
from videodpo.models import load_model
from videodpo.models.base import ALL_PARTS, Part, VideoModel
from videodpo.runtime.compat.diffusers import repeated_layers
from videodpo.runtime.compat.torch import FUSED_ATTENTION
from videodpo.runtime.seeds import derive_seed
from videodpo.runtime.snapshot import Snapshot, TrainSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

_MOST_GRAPHS = 64


def build_policy(
    snapshot: Snapshot[TrainSettings], previous_adapter: Path | None, device: str, *, parts: Set[Part] | None = None
) -> VideoModel:
    """The base model with trainable weights: a fresh LoRA, or all of the denoiser's.

    Args:
        previous_adapter: what the round before trained, to go on from; the reference stays the base model.
        device: as configured: auto, cpu or cuda.
        parts: what to load of the model; None: what the training needs.
    """
    train = snapshot.settings.train
    parts = parts or ({"denoiser"} if train.texts == "cached" else ALL_PARTS)
    model = load_model(snapshot.settings.model, device, parts=parts)
    if train.method == "lora":
        model.add_lora(train.lora, derive_seed(snapshot.seed, "lora"))
        if previous_adapter:
            model.resume_lora(previous_adapter)
    else:
        if train.reference == "online":
            model.keep_reference()
        if previous_adapter:
            model.load_adapter(previous_adapter)
        model.denoiser.requires_grad_(True)
    if train.objective.official_code.network_dropout:
        model.denoiser.train()
    return model


def gather_policy(
    model: VideoModel, snapshot: Snapshot[TrainSettings], accelerator: Accelerator
) -> tuple[VideoModel, dict[str, torch.Tensor] | None]:
    """The trained policy as it can be saved. Every process calls this; the main process has the answer.

    Returns:
        The model, out of its wrapping. If its weights are sharded: all trained ones, on the CPU, for `save_adapter`;
        after full fine-tuning they are in a model of their own.
    """
    from accelerate.utils import DistributedType

    if accelerator.distributed_type != DistributedType.FSDP:
        model.denoiser = accelerator.unwrap_model(model.denoiser)
        return model, None
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    weights: Any = get_model_state_dict(model.denoiser, options=options)
    if snapshot.settings.train.method == "lora" or not accelerator.is_main_process:
        return model, weights
    whole = build_policy(snapshot, None, "cpu")
    unknown = whole.denoiser.load_state_dict(weights, strict=False).unexpected_keys
    assert not unknown
    assert set(weights) >= set(trainable(whole))
    return whole, None


def trainable(model: VideoModel) -> dict[str, torch.nn.Parameter]:
    """The weights that are trained, by name."""
    return {name: weight for name, weight in model.denoiser.named_parameters() if weight.requires_grad}


def apply_memory_options(model: VideoModel, runtime: TrainRuntime) -> None:
    """Recompute activations, and compile the layers, as configured.

    Raises:
        InputError: the family does not say which layers repeat.
    """
    kind, denoiser = runtime.gradient_checkpointing, model.denoiser
    if runtime.compile:
        if not (layers := repeated_layers(denoiser)):
            raise InputError(
                "train_runtime.compile: true, but this family does not say which of its layers repeat; use false"
            )
        # A U-Net's layers have many sizes, and every one a graph for each way in which it is called.
        torch.compiler.config.recompile_limit = max(torch.compiler.config.recompile_limit, _MOST_GRAPHS)
        if kind == "selective":
            for layer in layers:  # the compiler chooses what to keep, so it has to see the checkpoint
                layer.forward = _recomputed(layer.forward)
        # The reference's errors were computed uncompiled, so roundings have to be the same.
        denoiser.compile_repeated_blocks(options={"emulate_precision_casts": True})
    if kind == "full":
        denoiser.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False))
    elif kind == "selective" and not runtime.compile:
        denoiser.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False, context_fn=_selective))


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A layer's forward pass of which only the attention's outputs are kept."""

    def recomputed(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, context_fn=_selective, **kwargs)

    return recomputed


def _keep_attention(_: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    # Half to two thirds of a video model's arithmetic is attention, whose outputs are few of the activations.
    return CheckpointPolicy.MUST_SAVE if operation in FUSED_ATTENTION else CheckpointPolicy.PREFER_RECOMPUTE


_selective = partial(create_selective_checkpoint_contexts, _keep_attention)


def offloaded_activations(model: VideoModel) -> AbstractContextManager[Any]:
    """Inside, what is kept for the backward pass lies in the CPU's memory, but for the weights themselves."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.denoiser.parameters()}

    def away(kept: torch.Tensor) -> tuple[torch.device | None, torch.Tensor]:
        if kept.untyped_storage().data_ptr() in weights:
            return None, kept
        there = torch.empty(kept.shape, dtype=kept.dtype, pin_memory=kept.is_cuda)
        return kept.device, there.copy_(kept, non_blocking=kept.is_cuda)

    def back(packed: tuple[torch.device | None, torch.Tensor]) -> torch.Tensor:
        device, kept = packed
        return kept if device is None else kept.to(device, non_blocking=True)

    return torch.autograd.graph.saved_tensors_hooks(away, back)


@contextmanager
def without_dropout(model: VideoModel) -> Iterator[None]:
    """Inside, no part of the denoiser is in train mode, and no gradient is kept."""
    training = [module for module in model.denoiser.modules() if module.training]
    for module in training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def all_dropout(model: VideoModel) -> Iterator[None]:
    """Inside, every part of the denoiser is in train mode."""
    resting = [module for module in model.denoiser.modules() if not module.training]
    for module in resting:
        module.training = True
    try:
        yield
    finally:
        for module in resting:
            module.training = False
