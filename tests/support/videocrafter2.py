"""VideoCrafter2's file with tiny networks, under its authors' tensor names.

The names of the U-Net's tensors, the inputs of one forward pass and its result were recorded with the authors' own
code, in videocrafter2_tiny.npz.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from open_clip.transformer import TextTransformer

RECORDED = Path(__file__).with_suffix("").with_name("videocrafter2_tiny.npz")
WIDTH = 64


def unet_tensors() -> dict[str, torch.Tensor]:
    """Weights with which the result was recorded."""
    with np.load(RECORDED) as recorded:
        names, shapes = recorded["names"].tolist(), recorded["shapes"]
    tensors = {}
    for number, (name, padded) in enumerate(zip(names, shapes, strict=True)):
        shape = tuple(int(size) for size in padded if size)
        values = np.random.RandomState(1000 + number).standard_normal(shape).astype(np.float32)
        if len(shape) > 1:
            values /= np.sqrt(np.prod(shape[1:]))
        else:
            values = 0.05 * values + (1 if name.endswith("weight") else 0)
        tensors[name] = torch.from_numpy(values.astype(np.float32))
    return tensors


def vae_tensors(vae: AutoencoderKL | None = None) -> dict[str, torch.Tensor]:
    """Tensors of a VAE (default: a tiny one) by latent diffusion's names, which count decoder levels from the end."""
    levels = 4
    vae = vae or AutoencoderKL(
        block_out_channels=(32,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
    )
    tensors = {}
    for name, value in vae.state_dict().items():
        name = re.sub(r"up_blocks\.(\d)", lambda found: f"up.{levels - 1 - int(found[1])}", name)
        name = name.replace("down_blocks", "down")
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}", name)
        for ours, theirs in (
            ("mid_block.attentions.0", "mid.attn_1"),
            ("resnets", "block"),
            ("downsamplers.0", "downsample"),
            ("upsamplers.0", "upsample"),
            ("conv_norm_out", "norm_out"),
            ("conv_shortcut", "nin_shortcut"),
            ("group_norm", "norm"),
            ("to_q", "q"),
            ("to_k", "k"),
            ("to_v", "v"),
            ("to_out.0", "proj_out"),
        ):
            name = name.replace(ours, theirs)
        is_projection = ".attn_1." in name and value.ndim == 2
        tensors[name] = value[:, :, None, None] if is_projection else value
    return tensors


def text_tower() -> TextTransformer:
    return TextTransformer(context_length=77, width=WIDTH, heads=1, layers=3, output_dim=8)


def make() -> dict[str, Any]:
    """Content of the file by name: the networks' tensors and the other entries of the published file."""
    tensors = {f"model.diffusion_model.{name}": value for name, value in unet_tensors().items()}
    tensors |= {f"first_stage_model.{name}": value for name, value in vae_tensors().items()}
    tower = text_tower().state_dict() | {"logit_scale": torch.ones(()), "visual.proj": torch.ones(2)}
    tensors |= {f"cond_stage_model.model.{name}": value for name, value in tower.items()}
    rest = {"scale_arr": torch.ones(1000), "betas": torch.ones(1000)}
    return {"model.ckpt": {"state_dict": tensors | rest, "global_step": 7}}


def turbo_layers() -> list[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the weights that T2V-Turbo's LoRA changes, in its order."""
    layers = []
    for name, value in unet_tensors().items():
        if name.endswith("weight") and value.ndim in (2, 4, 5):
            layers.append((name, tuple(value.shape)))
        if name == "fps_embedding.2.weight":
            layers.append(("time_cond_proj.weight", (32, 256)))
    return layers


def make_turbo() -> dict[str, Any]:
    """VideoCrafter2's file, and a LoRA of rank 2 as a list."""
    generator = torch.Generator().manual_seed(4)
    lora = []
    for _, (out, into, *kernel) in turbo_layers():
        lora.append(0.1 * torch.randn(out, 2, *[1] * len(kernel), generator=generator))
        lora.append(0.1 * torch.randn(2, into, *kernel, generator=generator))
    return make() | {"unet_lora.pt": [torch.nn.Parameter(value) for value in lora]}
