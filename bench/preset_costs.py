"""Cost of a step and of a clip for each preset's model, counted on tensors without data and divided by measured rates.

    python bench/preset_costs.py --out bench/results/preset_costs.json

The networks have their published configurations. The forward and backward pass of a step on one pair run on torch's
meta device, with a LoRA (VideoCrafter2: all weights) and full gradient checkpointing. TFLOP, including recomputation,
and peak bytes are counted, not estimated by formulas. Attention is counted as in a flash kernel, without a score
matrix. Times are for an H100 80GB:

    seconds per step = counted TFLOP / 310 (CogVideoX: 250)    (bench/results/dpo_step_gpu_*.json)
    seconds per clip = passes with guidance x steps x forward TFLOP / 400 (CogVideoX: 371), without decoding

400 is between the 393 and 428 TFLOP per second of two measurements. For models in float32 the rate is 67, the vendor's
number without tensor cores. This is a guess: TF32 in convolutions is faster, small layers are slower.
Memory is the sum of weights, AdamW's moments (8 bytes per trained weight) and the peak of all tensors. For CogVideoX
2B's LoRA step, this is a tenth more than measured. While sampling, the text encoder is first alone in memory. Then one
clip is decoded while the next is denoised, so these two add up. An online reference, and its copy of the weights in
full fine-tuning, are not included.
"""

from __future__ import annotations

import argparse
import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import diffusers
import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_hunyuan_video15 import HunyuanVideo15TransformerBlock
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from videodpo.models.hunyuan_video15 import HunyuanVideo15Model
from videodpo.models.shared.adapters import AdaptedModel
from videodpo.models.shared.unet3d import UNet3DConditionModel
from videodpo.storage.files import write_json
from videodpo.storage.tables import commit

STEP, SAMPLING = 310.0, 400.0  # TFLOP per second, measured on an H100, rounded
COGVIDEOX_STEP, COGVIDEOX_SAMPLING = 250.0, 371.0  # measured for the 2B model with a LoRA; its heads have 64 channels
FLOAT32 = 67.0
RANK = 64


class Hunyuan(torch.nn.Module):
    """HunyuanVideo 1.5's blocks, which do nearly all of its arithmetic; the text is padded to full length."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(HunyuanVideo15TransformerBlock(16, 128, mlp_ratio=4.0) for _ in range(54))

    def forward(self, video: torch.Tensor, *others: torch.Tensor) -> tuple[torch.Tensor]:
        text, time, mask = others
        for block in self.blocks:
            run = partial(checkpoint_plainly, block) if torch.is_grad_enabled() else block
            video, text = run(video, text, time, mask)
        return (video,)


@dataclass(frozen=True)
class Preset:
    """A denoiser with its published configuration, and its inputs."""

    network: Callable[[], torch.nn.Module]
    inputs: Callable[[int], Any]
    """Returns the network's inputs for a number of clips."""
    vae: Callable[[], Any]
    latents: tuple[int, ...]
    """Shape of one clip's latents for the VAE."""
    passes: int
    """Forward passes per sampled clip."""
    dtype: torch.dtype = torch.bfloat16
    full: bool = False
    distilled_lora: bool = False
    """True if each linear layer and 2D or 3D convolution has the trained LoRA and a frozen one of the same size."""
    step_rate: float = STEP
    sampling_rate: float = SAMPLING
    clips_sampled: int = 2
    """Clips in a forward pass while sampling one: 2 if the pipeline runs with and without the prompt in one pass."""
    experts: int = 1
    """Networks in memory; a step uses one of them."""


def empty(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.empty(shape, device="meta", dtype=dtype)


def wan(frames: int, height: int, width: int, *, channels: int = 16, per_token: bool = False) -> Any:
    def inputs(clips: int) -> dict[str, torch.Tensor]:
        tokens = (frames * height * width // 4,) if per_token else ()
        return {
            "hidden_states": empty(clips, channels, frames, height, width),
            "encoder_hidden_states": empty(clips, 512, 4096),
            "timestep": empty(clips, *tokens, dtype=torch.float32),
        }

    return inputs


def cogvideox(rotary: bool) -> Any:
    def inputs(clips: int) -> dict[str, Any]:
        rotations = (empty(17550, 64, dtype=torch.float32), empty(17550, 64, dtype=torch.float32))
        return {
            "hidden_states": empty(clips, 13, 16, 60, 90),
            "encoder_hidden_states": empty(clips, 226, 4096),
            "timestep": empty(clips, dtype=torch.float32),
            "image_rotary_emb": rotations if rotary else None,
        }

    return inputs


def ltx(clips: int) -> dict[str, Any]:
    return {
        "hidden_states": empty(clips, 21 * 16 * 22, 128),
        "encoder_hidden_states": empty(clips, 256, 4096),
        "timestep": empty(clips, dtype=torch.float32),
        "encoder_attention_mask": empty(clips, 256),
        "num_frames": 21,
        "height": 16,
        "width": 22,
    }


def hunyuan(clips: int) -> list[torch.Tensor]:
    text = 1000 + 256 + 729  # tokens of the language model, of ByT5, and of the absent image
    known = empty(clips, text, dtype=torch.bool)
    return [empty(clips, 31 * 30 * 53, 2048), empty(clips, text, 2048), empty(clips, 2048), known]


def unet(frames: int, height: int, width: int, dtype: torch.dtype) -> Any:
    def inputs(clips: int) -> dict[str, torch.Tensor]:
        return {
            "sample": empty(clips, 4, frames, height, width, dtype=dtype),
            "timestep": empty(clips, dtype=torch.float32),
            "encoder_hidden_states": empty(clips, 77, 1024, dtype=dtype),
        }

    return inputs


def of_wan(**config: Any) -> Any:
    return partial(diffusers.WanTransformer3DModel, **config)


def hunyuan_vae() -> Any:
    vae = diffusers.AutoencoderKLHunyuanVideo15()
    vae.enable_tiling()
    return vae


WIDE: dict[str, Any] = {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "patch_size": 2}
WIDE |= {"in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}
WIDE |= {"latents_mean": [0.0] * 48, "latents_std": [1.0] * 48}
WAN_VAE = partial(diffusers.AutoencoderKLWan, z_dim=16)
WAN_WIDE_VAE = partial(diffusers.AutoencoderKLWan, **WIDE)
PICTURES_VAE = partial(
    diffusers.AutoencoderKL,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(128, 256, 512, 512),
    layers_per_block=2,
)
COGVIDEOX_VAE = partial(
    diffusers.AutoencoderKLCogVideoX,
    down_block_types=("CogVideoXDownBlock3D",) * 4,
    up_block_types=("CogVideoXUpBlock3D",) * 4,
    block_out_channels=(128, 256, 256, 512),
    latent_channels=16,
)
WAN_480P, COGVIDEOX_480P = (1, 16, 21, 60, 104), (1, 16, 13, 60, 90)
SMALL = of_wan(num_attention_heads=12, ffn_dim=8960, num_layers=30)
FIVE = of_wan(num_attention_heads=24, ffn_dim=14336, num_layers=30, in_channels=48, out_channels=48)
COG5 = partial(
    diffusers.CogVideoXTransformer3DModel,
    num_attention_heads=48,
    num_layers=42,
    use_rotary_positional_embeddings=True,
)
COG: dict[str, Any] = {"step_rate": COGVIDEOX_STEP, "sampling_rate": COGVIDEOX_SAMPLING}
PLAIN: dict[str, Any] = {"dtype": torch.float32, "step_rate": FLOAT32, "sampling_rate": FLOAT32}
HALF = torch.float16
PRESETS = {
    "config.yaml": Preset(SMALL, wan(21, 60, 104), WAN_VAE, WAN_480P, 100, clips_sampled=1),
    "wan2.1-14b": Preset(of_wan(), wan(21, 60, 104), WAN_VAE, WAN_480P, 100, clips_sampled=1),
    "wan2.2-a14b": Preset(of_wan(), wan(21, 60, 104), WAN_VAE, WAN_480P, 80, clips_sampled=1, experts=2),
    "wan2.2-ti2v-5b": Preset(
        FIVE, wan(31, 44, 80, channels=48, per_token=True), WAN_WIDE_VAE, (1, 48, 31, 44, 80), 100, clips_sampled=1
    ),
    "cogvideox-2b": Preset(
        diffusers.CogVideoXTransformer3DModel, cogvideox(False), COGVIDEOX_VAE, COGVIDEOX_480P, 100, **COG
    ),
    "cogvideox-5b": Preset(COG5, cogvideox(True), COGVIDEOX_VAE, COGVIDEOX_480P, 100, **COG),
    "ltx-video": Preset(
        diffusers.LTXVideoTransformer3DModel, ltx, diffusers.AutoencoderKLLTXVideo, (1, 128, 21, 16, 22), 100
    ),
    "hunyuan-video-1.5": Preset(Hunyuan, hunyuan, hunyuan_vae, (1, 32, 31, 30, 53), 100, clips_sampled=1),
    "modelscope": Preset(UNet3DConditionModel, unet(16, 32, 32, HALF), PICTURES_VAE, (16, 4, 32, 32), 100, HALF),
    "zeroscope": Preset(UNet3DConditionModel, unet(24, 40, 72, HALF), PICTURES_VAE, (24, 4, 40, 72), 80, HALF),
    "videocrafter2": Preset(
        UNet3DConditionModel, unet(16, 40, 64, torch.float32), PICTURES_VAE, (16, 4, 40, 64), 100, full=True, **PLAIN
    ),
    "t2v-turbo": Preset(
        UNet3DConditionModel,
        unet(16, 40, 64, torch.float32),
        PICTURES_VAE,
        (16, 4, 40, 64),
        4,
        distilled_lora=True,
        clips_sampled=1,
        **PLAIN,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, nargs="+", default=list(PRESETS))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = {}
    for name in arguments.preset:
        rows[name] = costs(PRESETS[name])
        print(name, rows[name], file=sys.stderr, flush=True)
        write_json(arguments.out, {"command": " ".join(["python", *sys.argv]), "commit": commit(), "presets": rows})


def costs(preset: Preset) -> dict[str, float]:
    """Counted TFLOP and bytes, and seconds by the measured rates."""
    with torch.device("meta"):
        network = preset.network().to(preset.dtype).requires_grad_(False)
    weights = sum(weight.nbytes for weight in network.parameters())
    num_weights = sum(weight.numel() for weight in network.parameters())
    with torch.no_grad():
        forward, sampling = counted(network, lambda: _output(network, preset, preset.clips_sampled))
    trained = _make_trainable(network, preset)
    step, training = counted(network, lambda: _output(network, preset, 2).float().square().mean().backward())
    weights_then = sum(weight.nbytes for weight in network.parameters())
    row = {
        "parameters_billion": num_weights / 1e9,
        "weights_gb": weights / 1e9,
        "forward_tflop_a_clip": forward / preset.clips_sampled,
        "step_tflop_a_pair": step,
        "step_seconds": step / preset.step_rate,
        "step_memory_gb": (preset.experts * (weights_then + 8 * trained) + training) / 1e9,
        "denoising_seconds_a_clip": preset.passes * forward / preset.clips_sampled / preset.sampling_rate,
        "decoding_memory_gb": decoding_bytes(preset) / 1e9,
        "denoising_memory_gb": (preset.experts * weights + sampling) / 1e9,
    }
    return {key: float(f"{value:.3g}") for key, value in row.items()}


def decoding_bytes(preset: Preset) -> int:
    """Bytes of the VAE in float32, and of its live tensors at the peak of decoding one clip."""
    with torch.device("meta"):
        vae = preset.vae().eval()
    with torch.no_grad():
        _, most = counted(vae, lambda: vae.decode(empty(*preset.latents, dtype=torch.float32)))
    return sum(weight.nbytes for weight in vae.parameters()) + most


def _output(network: torch.nn.Module, preset: Preset, clips: int) -> torch.Tensor:
    inputs = preset.inputs(clips)
    found: torch.Tensor = (network(**inputs) if isinstance(inputs, dict) else network(*inputs))[0]
    return found


def _make_trainable(network: Any, preset: Preset) -> int:
    """Make a LoRA or all weights trainable, with full checkpointing; return the number of trained weights."""
    if preset.full:
        network.requires_grad_(True)
    else:
        targets = list((HunyuanVideo15Model if isinstance(network, Hunyuan) else AdaptedModel).lora_targets)
        if preset.distilled_lora:
            kinds = torch.nn.Linear, torch.nn.Conv2d, torch.nn.Conv3d
            targets = [name for name, layer in network.named_modules() if isinstance(layer, kinds)]
        names = ["frozen", "default"] if preset.distilled_lora else ["default"]
        for name in names:
            config = LoraConfig(r=RANK, lora_alpha=RANK, lora_dropout=0.1 * (name == "default"), target_modules=targets)
            with torch.device("meta"):
                inject_adapter_in_model(config, network, adapter_name=name)
        for layer in network.modules():
            if isinstance(layer, BaseTunerLayer):
                layer.set_adapter(names)
        for name, weight in network.named_parameters():
            weight.requires_grad_("lora_" in name and ".frozen." not in name)
            if "lora_" in name:
                weight.data = weight.data.float()
    network.train()
    if hasattr(network, "enable_gradient_checkpointing"):
        network.enable_gradient_checkpointing(checkpoint_plainly)
    return sum(weight.numel() for weight in network.parameters() if weight.requires_grad)


# The meta device has no generator state to restore.
checkpoint_plainly = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)


@dataclass
class Attention:
    """Replaces attention, and counts its FLOP."""

    flop: int = 0

    def __call__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        self.add(query, key)
        found: torch.Tensor = Flash.apply(self, query, key, value)
        return found

    def add(self, query: torch.Tensor, key: torch.Tensor, times: int = 1) -> None:
        self.flop += times * 4 * query.numel() * key.shape[-2]


class Flash(torch.autograd.Function):
    """Attention that saves the same tensors as a flash kernel: queries, keys, values, outputs, one number per row."""

    @staticmethod
    def forward(
        ctx: Any, attention: Attention, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        out, sums = torch.empty_like(query), query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.attention = attention
        ctx.save_for_backward(query, key, value, out, sums)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        query, key, value, *_ = ctx.saved_tensors
        ctx.attention.add(query, key, times=2)
        return None, torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


class Counted(TorchDispatchMode):
    """Counts current and peak bytes of live tensors, without the network's weights and buffers."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.alive = self.most = 0
        own = (*network.parameters(), *network.buffers())
        self._known = {tensor.untyped_storage()._cdata for tensor in own}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self._see(tensor)
        return out

    def _see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata in self._known:
            return
        size = storage.nbytes()
        self._known.add(storage._cdata)
        self.alive += size
        self.most = max(self.most, self.alive)
        weakref.finalize(storage, self._forget, storage._cdata, size)

    def _forget(self, number: int, size: int) -> None:
        self._known.discard(number)
        self.alive -= size


def counted(network: torch.nn.Module, action: Callable[[], Any]) -> tuple[float, int]:
    """TFLOP of an action on meta tensors, and its peak bytes in addition to the network's own."""
    bytes_, flop = Counted(network), FlopCounterMode(display=False)
    # Run twice, once per counter: the FLOP counter keeps tensors alive.
    for mode in (bytes_, flop):
        attention = Attention()
        with patch.object(F, "scaled_dot_product_attention", attention), mode:
            action()
    return (flop.get_total_flops() + attention.flop) / 1e12, bytes_.most


if __name__ == "__main__":
    main()
