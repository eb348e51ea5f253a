"""T2V-Turbo v1 on VideoCrafter2: its LoRA, guidance as conditioning, and consistency sampling in a few steps.

Legend: see `videodpo.models.shared.videocrafter_pipeline`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import LCMScheduler

from videodpo.config.errors import InputError
from videodpo.models.shared.videocrafter_pipeline import BETAS, UNET, VideoCrafterPipeline
from videodpo.models.shared.videocrafter_unet import layer_name
from videodpo.weights.checkpoints import read_checkpoint, read_tensors

GUIDANCE_WIDTH = 256
TRAINED_STEPS = 50  # DDIM steps, of which the sampler uses a few
_AFTER = f"{UNET}fps_embedding.2.weight"  # the guidance's projection follows this weight in the order of layers


class T2VTurboPipeline(VideoCrafterPipeline):
    """Text to video in 4 to 8 steps. `from_originals` reads VideoCrafter2's `model.ckpt` and `unet_lora.pt`.

    Attributes:
        lora_layers: names of the U-Net's layers that the LoRA changes, in the order of its file.
    """

    lora_layers: list[str]

    @classmethod
    def from_originals(
        cls, path: Path, lora: Path, dtype: torch.dtype = torch.float32, unet_dtype: torch.dtype | None = None
    ) -> T2VTurboPipeline:
        """Read the authors' two files and add the LoRA to the weights.

        Args:
            path: VideoCrafter2's `model.ckpt`.
            lora: T2V-Turbo's `unet_lora.pt`.
            dtype: type of the text tower, and of the U-Net unless `unet_dtype` is given.
            unet_dtype: type of the U-Net.

        Raises:
            InputError: a file is not readable, or the two do not match.
        """
        tensors = with_lora(read_checkpoint(path), read_tensors(lora), lora)
        pipe = cls(**cls._parts(tensors, path, dtype, unet_dtype or dtype) | {"scheduler": make_scheduler()})
        pipe.lora_layers = [layer_name(name.removeprefix(UNET)) for name in _lora_weights(tensors)]
        return pipe

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        num_inference_steps: int = 4,
        guidance: float = 7.5,
        fps: float = 16.0,
        **options: Any,
    ) -> SimpleNamespace:
        """Sample as VideoCrafter2's pipeline, without a negative prompt; the network is conditioned on `guidance`."""
        timesteps = consistency_timesteps(num_inference_steps)
        self.scheduler.set_timesteps(timesteps=timesteps, device=self.device)
        return self._denoise(prompt, conditions={"fps": fps, "guidance": guidance}, guidance_scale=1.0, **options)


def make_scheduler() -> LCMScheduler:
    """Create the consistency sampler."""
    return LCMScheduler(**BETAS, original_inference_steps=TRAINED_STEPS, clip_sample=False)


def consistency_timesteps(num_steps: int) -> list[int]:
    """Return every k-th of the trained timesteps, noisiest first, with k = 50 / num_steps rounded down."""
    stride = 1000 // TRAINED_STEPS
    trained = [stride * number - 1 for number in range(TRAINED_STEPS, 0, -1)]
    return trained[:: TRAINED_STEPS // num_steps][:num_steps]


def with_lora(tensors: dict[str, torch.Tensor], lora: Sequence[torch.Tensor], path: Path) -> dict[str, torch.Tensor]:
    """Return VideoCrafter2's tensors with T2V-Turbo's LoRA added.

    The file is a list of the up and down matrices of every linear layer and every 2-D or 3-D convolution. The order is
    that of the network's state dict, with the guidance's projection after the frame rate's. Neither file has the
    initial value of the guidance's projection: the authors' script draws a new one at every start. It is 0 here.

    Args:
        tensors: VideoCrafter2's tensors by name.
        lora: tensors of `unet_lora.pt`, in the file's order.
        path: that file, for messages.

    Raises:
        InputError: the number of layers or their shapes do not match.
    """
    found: dict[str, torch.Tensor] = {}
    for name, value in tensors.items():
        found[name] = value
        if name == _AFTER:
            found[f"{UNET}time_cond_proj.weight"] = value.new_zeros(value.shape[1] // 4, GUIDANCE_WIDTH)
    layers = _lora_weights(found)
    if len(lora) != 2 * len(layers):
        raise InputError(f"model.weights: {path}: has {len(lora)} tensors; {2 * len(layers)} are needed")
    for name, up, down in zip(layers, lora[::2], lora[1::2], strict=True):
        shape = found[name].shape
        if (len(up), *down.shape[1:]) != tuple(shape) or up.shape[1] != len(down):
            raise InputError(f"model.weights: {path}: does not fit {name.removeprefix(UNET)}")
        found[name] = found[name].float() + (up.float().flatten(1) @ down.float().flatten(1)).view(shape)
    return found


def _lora_weights(tensors: dict[str, torch.Tensor]) -> list[str]:
    """Return names of the U-Net's linear and 2-D or 3-D convolution weights, in the order of the state dict."""
    weights = {name: value.ndim for name, value in tensors.items() if name.startswith(UNET) and name.endswith("weight")}
    return [name for name, num_axes in weights.items() if num_axes in (2, 4, 5)]
