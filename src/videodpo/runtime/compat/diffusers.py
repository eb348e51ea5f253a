"""diffusers' private names. Works with diffusers 0.42.1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh


def name_layers(network: Any, compiled: Sequence[str], sharded: Sequence[str]) -> None:
    """Name the classes of layers that are compiled and sharded one by one, where the network's class names none.

    `compile_repeated_blocks` of diffusers and FSDP of accelerate look at these attributes. Public API would be an
    argument of the former; `FullyShardedDataParallelPlugin` has one, but is made before the network is known.
    """
    network._repeated_blocks = network._repeated_blocks or compiled
    network._no_split_modules = network._no_split_modules or list(sharded or network._repeated_blocks)


def repeated_layers(network: torch.nn.Module) -> list[torch.nn.Module]:
    """The layers that `compile_repeated_blocks` compiles; of a wrapped network too.

    Public API would be a property of the network.
    """
    names = {name for part in network.modules() for name in getattr(part, "_repeated_blocks", None) or ()}
    return [part for part in network.modules() if type(part).__name__ in names]


def has_context_parallel_plan(network: Any) -> bool:
    """Whether diffusers knows how to share the network's tokens.

    `enable_parallelism` raises ValueError for this and other reasons. Public API would be a property of the network.
    """
    return getattr(network, "_cp_plan", None) is not None


def enable_context_parallel(networks: Sequence[Any], degree: int, mesh: DeviceMesh, device: str) -> None:
    """Share the tokens of every network over `degree` processes of the mesh, whose axes are "ring" and "ulysses".

    `enable_parallelism` is public, but divides by the number of accelerators, which is 0 on a CPU: it is 1 meanwhile.
    Public API would be a device in `ContextParallelConfig`.
    """
    from diffusers import ContextParallelConfig

    with _one_accelerator() if device == "cpu" else nullcontext():
        for network in networks:
            network.enable_parallelism(
                config=ContextParallelConfig(ulysses_degree=degree, mesh=mesh["ring", "ulysses"])
            )


@contextmanager
def _one_accelerator() -> Iterator[None]:
    import torch

    count = torch.accelerator.device_count
    torch.accelerator.device_count = lambda: 1
    try:
        yield
    finally:
        torch.accelerator.device_count = count


def cogvideox_positions(
    pipe: Any, height: int, width: int, num_frames: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of CogVideoX 5B's rotary positions.

    Args:
        height, width: in pixels. num_frames: of the latents.

    Public API would be the pipeline's method without the underscore.
    """
    found: tuple[torch.Tensor, torch.Tensor] = pipe._prepare_rotary_positional_embeddings(
        height, width, num_frames, device
    )
    return found


def pack_ltx(latents_BCFHW: torch.Tensor, patch: int, patch_t: int) -> torch.Tensor:
    """Latents to the tokens [B, L, C] that LTX-Video's transformer takes.

    Public API would be the pipeline's method without the underscore.
    """
    from diffusers import LTXPipeline

    packed: torch.Tensor = LTXPipeline._pack_latents(latents_BCFHW, patch, patch_t)
    return packed


def unpack_ltx(
    tokens_BLC: torch.Tensor, frames: int, height: int, width: int, patch: int, patch_t: int
) -> torch.Tensor:
    """The inverse of `pack_ltx`; frames, height and width are counted in patches."""
    from diffusers import LTXPipeline

    latents: torch.Tensor = LTXPipeline._unpack_latents(tokens_BLC, frames, height, width, patch, patch_t)
    return latents


def convert_original_vae(tensors: dict[str, torch.Tensor], config: Any) -> dict[str, torch.Tensor]:
    """Stable Diffusion's VAE from its authors' names to those of `AutoencoderKL`.

    `AutoencoderKL.from_single_file` is public, but wants the VAE's settings as a folder or a repository, and here
    they follow from the tensors.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    converted: dict[str, torch.Tensor] = convert_ldm_vae_checkpoint(tensors, config)
    return converted


def lora_metadata_key() -> str:
    """The key of a LoRA file's metadata under which `load_lora_adapter` looks for the adapter's settings.

    `save_lora_weights` writes it, but not every pipeline has that method. Public API would be metadata as an argument
    of `save_lora_adapter`.
    """
    from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY

    key: str = LORA_ADAPTER_METADATA_KEY
    return key
