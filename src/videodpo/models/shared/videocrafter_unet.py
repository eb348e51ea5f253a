"""VideoCrafter2's U-Net: diffusers' 3-D U-Net, conditioned on the frame rate as well as the time.

Legend: B batch, C latent channel, F frame, H, W; E width of the first level, G width of the guidance embedding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from torch import nn

from videodpo.config.errors import InputError
from videodpo.models.shared.unet3d import UNet3DConditionModel

_LAYERS = 2  # residual blocks per level; the third block of a level halves or doubles the sides
_RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_PARTS = ("resnets", "attentions", "temp_attentions")


class VideoCrafterUNet(UNet3DConditionModel):
    """diffusers' class with an additional input `fps` [B], frames per second.

    With a `guidance_width` it is T2V-Turbo's U-Net, which also takes `guidance` [B], the guidance scale.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        in_channels: int = 4,
        out_channels: int = 4,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        cross_attention_dim: int = 1024,
        attention_head_dim: int = 64,
        guidance_width: int | None = None,
    ) -> None:
        attending = len(block_out_channels) - 1  # all levels but the coarsest
        super().__init__(
            in_channels=in_channels,
            out_channels=out_channels,
            block_out_channels=block_out_channels,
            down_block_types=("CrossAttnDownBlock3D",) * attending + ("DownBlock3D",),
            up_block_types=("UpBlock3D",) + ("CrossAttnUpBlock3D",) * attending,
            layers_per_block=_LAYERS,
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=attention_head_dim,
        )
        self.time_embedding = _TimeAndRate(block_out_channels[0], guidance_width)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, **inputs: Any) -> Any:
        """Predict the noise.

        Args:
            sample: [B, C, F, H, W]; every level must halve the sides without remainder.
            timestep: [B] or a scalar.
        """
        conditions = [self.time_proj(inputs.pop("fps"))]
        if self.config.guidance_width:
            # Sinusoidal embedding of 1000 times the scale, as in latent consistency models (arXiv 2310.04378).
            conditions.append(
                get_timestep_embedding(
                    1000 * inputs.pop("guidance"), self.config.guidance_width, downscale_freq_shift=1
                )
            )
        return super().forward(sample, timestep, timestep_cond=torch.cat(conditions, dim=1).to(self.dtype), **inputs)


class _TimeAndRate(nn.Module):
    def __init__(self, width: int, guidance_width: int | None) -> None:
        super().__init__()
        self._width = width
        self.time = TimestepEmbedding(width, 4 * width, cond_proj_dim=guidance_width)
        self.rate = TimestepEmbedding(width, 4 * width)

    def forward(self, time_BE: torch.Tensor, conditions: torch.Tensor) -> torch.Tensor:
        """Embed time and conditions. conditions: [B, E + G], frame rate, then guidance; G may be 0."""
        rate_BE, guidance_BG = conditions[:, : self._width], conditions[:, self._width :]
        summed: torch.Tensor = self.time(time_BE, guidance_BG if guidance_BG.shape[1] else None) + self.rate(rate_BE)
        return summed


def from_original(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the authors' state dict to the names of `VideoCrafterUNet`.

    Raises:
        InputError: a name is not one of the authors' names.
    """
    renamed = {_renamed(name): tensor for name, tensor in tensors.items()}
    for name in ("transformer_in.proj_in.weight", "transformer_in.proj_out.weight"):
        if name in renamed and renamed[name].ndim == 3:  # a convolution of kernel size 1
            renamed[name] = renamed[name].squeeze(2)
    return renamed


def layer_name(weight: str) -> str:
    """Return the layer of `VideoCrafterUNet` that corresponds to one of the authors' weights."""
    return _renamed(weight).removesuffix(".weight")


def _renamed(name: str) -> str:
    first, _, rest = name.partition(".")
    if first == "time_cond_proj":
        return f"time_embedding.time.cond_proj.{rest}"
    if first in ("time_embed", "fps_embedding"):
        index, _, leaf = rest.partition(".")
        return f"time_embedding.{'time' if first == 'time_embed' else 'rate'}.linear_{1 + int(index) // 2}.{leaf}"
    if first == "init_attn":
        return f"transformer_in.{rest.removeprefix('0.')}"
    if first == "out":
        return rest.replace("0.", "conv_norm_out.", 1) if rest.startswith("0.") else rest.replace("2.", "conv_out.", 1)
    found = re.fullmatch(r"(?:(\d+)\.)?(\d+)\.(.+)", rest)
    if found and first == "middle_block":
        part = int(found[2])
        return _inside("mid_block", ("resnets", "attentions", "temp_attentions", "resnets")[part], part // 3, found[3])
    if found and first == "input_blocks":
        block, part = int(found[1]), int(found[2])
        if block == 0:
            return f"conv_in.{found[3]}"
        noise_level, layer = divmod(block - 1, _LAYERS + 1)
        if layer == _LAYERS:
            return f"down_blocks.{noise_level}.downsamplers.0.conv.{found[3].removeprefix('op.')}"
        return _inside(f"down_blocks.{noise_level}", _PARTS[part], layer, found[3])
    if found and first == "output_blocks":
        noise_level, layer = divmod(int(found[1]), _LAYERS + 1)
        if found[3].startswith("conv."):
            return f"up_blocks.{noise_level}.upsamplers.0.{found[3]}"
        return _inside(f"up_blocks.{noise_level}", _PARTS[int(found[2])], layer, found[3])
    raise InputError(f"{name!r} is not a tensor of VideoCrafter2's U-Net")


def _inside(block: str, part: str, layer: int, rest: str) -> str:
    if rest.startswith("temopral_conv."):
        return f"{block}.temp_convs.{layer}.{rest.removeprefix('temopral_conv.')}"
    if part == "resnets":
        inner, _, leaf = rest.rpartition(".")
        return f"{block}.resnets.{layer}.{_RESIDUAL[inner]}.{leaf}"
    return f"{block}.{part}.{layer}.{rest}"
