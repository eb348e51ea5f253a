"""The configured model as the policy: trainable weights, memory options, and gathering for saving."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext
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
from videodpo.runtime.settings import TrainSettings
from videodpo.runtime.snapshot import Snapshot

if TYPE_CHECKING:
    from accelerate import Accelerator

_MOST_GRAPHS = 64


def build_policy(
    snapshot: Snapshot[TrainSettings], previous_adapter: Path | None, device: str, *, parts: Set[Part] | None = None
) -> VideoModel:
    """Load the base model with trainable weights: a fresh LoRA, or all of the denoiser's.

    Args:
        previous_adapter: adapter of the previous round to resume from; the reference stays the base model.
        device: as configured: auto, cpu or cuda.
        parts: parts of the model to load; None loads those that the training needs.
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
    """Gather the trained policy for saving. Every rank must call this; the result is complete on the main rank.

    Returns:
        The model and the weights to pass to `save_adapter`. Without sharding: the unwrapped model, None. With a sharded
        LoRA: the model, its trained weights on the CPU. After sharded full fine-tuning: a new model with the trained
        weights, None.
    """
    from accelerate.utils import DistributedType

    if accelerator.distributed_type != DistributedType.FSDP:
        model.denoiser = accelerator.unwrap_model(model.denoiser)
        return model, None
    options = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
    weights: Any = get_model_state_dict(model.denoiser, options=options)
    if snapshot.settings.train.method == "lora" or not accelerator.is_main_process:
        return model, weights
    full = build_policy(snapshot, None, "cpu")
    unknown = full.denoiser.load_state_dict(weights, strict=False).unexpected_keys
    assert not unknown
    assert set(weights) >= set(trainable(full))
    return full, None


def trainable(model: VideoModel) -> dict[str, torch.nn.Parameter]:
    """Return the trainable weights by name."""
    return {name: weight for name, weight in model.denoiser.named_parameters() if weight.requires_grad}


def apply_memory_options(model: VideoModel, runtime: TrainRuntime) -> None:
    """Enable gradient checkpointing and compilation of the layers, as configured.

    Raises:
        InputError: compilation is on, but the family does not name its repeated layers.
    """
    kind, denoiser = runtime.gradient_checkpointing, model.denoiser
    if runtime.compile:
        if not (layers := repeated_layers(denoiser)):
            raise InputError(
                "train_runtime.compile: true, but this model family does not declare its repeated layers; use false"
            )
        # torch's default limit is too low: a U-Net's layers have many sizes, and each needs a graph per call signature.
        torch.compiler.config.recompile_limit = max(torch.compiler.config.recompile_limit, _MOST_GRAPHS)
        if kind == "selective":
            for layer in layers:  # the compiler must see the checkpoint, since it chooses what to save
                layer.forward = _recomputed(layer.forward)
        # Round as uncompiled code does: the reference errors were computed uncompiled.
        denoiser.compile_repeated_blocks(options={"emulate_precision_casts": True})
    if kind == "full":
        denoiser.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False))
    elif kind == "selective" and not runtime.compile:
        denoiser.enable_gradient_checkpointing(partial(checkpoint, use_reentrant=False, context_fn=_selective))


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a layer's forward pass so that only attention outputs are saved for the backward pass."""

    def recomputed(*args: Any, **kwargs: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, context_fn=_selective, **kwargs)

    return recomputed


def _keep_attention(_: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    # Attention is half to two thirds of a video model's arithmetic, but few of its activations.
    return CheckpointPolicy.MUST_SAVE if operation in FUSED_ATTENTION else CheckpointPolicy.PREFER_RECOMPUTE


_selective = partial(create_selective_checkpoint_contexts, _keep_attention)


def offloaded_activations(model: VideoModel, runtime: TrainRuntime) -> AbstractContextManager[Any]:
    """Inside the block, keep the activations for the backward pass in CPU memory, if configured; weights stay."""
    if not runtime.offload_activations:
        return nullcontext()
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
    """Inside the block, put the denoiser in eval mode and disable gradients."""
    with _mode(model, training=False), torch.no_grad():
        yield


def all_dropout(model: VideoModel) -> AbstractContextManager[None]:
    """Inside the block, put all of the denoiser in train mode."""
    return _mode(model, training=True)


@contextmanager
def _mode(model: VideoModel, *, training: bool) -> Iterator[None]:
    others = [module for module in model.denoiser.modules() if module.training != training]
    for module in others:
        module.training = training
    try:
        yield
    finally:
        for module in others:
            module.training = not training
