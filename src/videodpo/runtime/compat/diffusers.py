"""Private names of diffusers. Works with diffusers 0.42.1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.distributed.device_mesh import DeviceMesh


def name_layers(network: Any, compiled: Sequence[str], sharded: Sequence[str]) -> None:
    """Set the layer classes that are compiled and sharded one by one, if the network's class does not name them.

    diffusers' `compile_repeated_blocks` and accelerate's FSDP read these attributes. Public API would be an argument of
    the former. `FullyShardedDataParallelPlugin` has one, but it is created before the network is known.
    """
    network._repeated_blocks = network._repeated_blocks or compiled
    network._no_split_modules = network._no_split_modules or list(sharded or network._repeated_blocks)


def repeated_layers(network: torch.nn.Module) -> list[torch.nn.Module]:
    """Layers that `compile_repeated_blocks` compiles; the network may be wrapped.

    Public API would be a property of the network.
    """
    names = {name for part in network.modules() for name in getattr(part, "_repeated_blocks", None) or ()}
    return [part for part in network.modules() if type(part).__name__ in names]


def has_context_parallel_plan(network: Any) -> bool:
    """True if diffusers can split the network's tokens over processes.

    `enable_parallelism` raises ValueError for this and other reasons. Public API would be a property of the network.
    """
    return getattr(network, "_cp_plan", None) is not None


def enable_context_parallel(networks: Sequence[Any], degree: int, mesh: DeviceMesh, device: str) -> None:
    """Split the tokens of each network over `degree` processes of the mesh, whose axes are "ring" and "ulysses".

    `enable_parallelism` is public, but it divides by the number of accelerators, which is 0 on a CPU. The number is set
    to 1 during the call. Public API would be a device in `ContextParallelConfig`.
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
    """Cosines and sines of CogVideoX 5B's rotary position embedding.

    Public API would be the pipeline's method without the underscore.

    Args:
        height: pixels.
        width: pixels.
        num_frames: frames of the latents.
    """
    found: tuple[torch.Tensor, torch.Tensor] = pipe._prepare_rotary_positional_embeddings(
        height, width, num_frames, device
    )
    return found


def pack_ltx(latents_BCFHW: torch.Tensor, patch: int, patch_t: int) -> torch.Tensor:
    """Pack latents into the tokens [B, L, C] that LTX-Video's transformer takes.

    Public API would be the pipeline's method without the underscore.
    """
    from diffusers import LTXPipeline

    packed: torch.Tensor = LTXPipeline._pack_latents(latents_BCFHW, patch, patch_t)
    return packed


def unpack_ltx(
    tokens_BLC: torch.Tensor, frames: int, height: int, width: int, patch: int, patch_t: int
) -> torch.Tensor:
    """Invert `pack_ltx`.

    Args:
        tokens_BLC: packed latents.
        frames: latent frames divided by `patch_t`.
        height: latent height divided by `patch`.
        width: latent width divided by `patch`.
        patch: patch size along height and width.
        patch_t: patch size along frames.
    """
    from diffusers import LTXPipeline

    latents: torch.Tensor = LTXPipeline._unpack_latents(tokens_BLC, frames, height, width, patch, patch_t)
    return latents


def convert_original_vae(tensors: dict[str, torch.Tensor], config: Any) -> dict[str, torch.Tensor]:
    """Rename the tensors of Stable Diffusion's VAE from its authors' names to those of `AutoencoderKL`.

    `AutoencoderKL.from_single_file` is public, but it needs the VAE's settings as a folder or a repository. Here, the
    settings follow from the tensors.
    """
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    converted: dict[str, torch.Tensor] = convert_ldm_vae_checkpoint(tensors, config)
    return converted


def lora_metadata_key() -> str:
    """Key in a LoRA file's metadata under which `load_lora_adapter` looks for the adapter's settings.

    `save_lora_weights` writes this key, but not every pipeline has that method. Public API would be a metadata argument
    of `save_lora_adapter`.
    """
    from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY

    key: str = LORA_ADAPTER_METADATA_KEY
    return key
