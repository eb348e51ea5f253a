"""Model folders with random weights, in the layout and configuration that each preset's authors publish.

Widths are the published ones. The denoiser's number of layers can be reduced. Text encoders have TEXT_LAYERS layers and
the vocabulary of a small tokenizer of the published class, because this project has no published vocabularies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import FlowMatchEulerDiscreteScheduler
from open_clip.transformer import TextTransformer
from random_weights import make

from tests.support import videocrafter2
from tests.support.tiny_transformers import byte_tokenizer, clip_tokenizer
from videodpo.models.shared.t2v_turbo_pipeline import GUIDANCE_WIDTH
from videodpo.models.shared.videocrafter_pipeline import UNET
from videodpo.models.shared.videocrafter_unet import VideoCrafterUNet, from_original

TEXT_LAYERS = 2
SHARD = "2GB"  # largest weights file; larger components have several files and an index, as published
HALF = torch.bfloat16  # for all networks except the VAE: halves the size of the files
TURBO_RANK = 64

Parts = dict[str, Any]


def at_most(published: int, layers: int | None) -> int:
    return published if layers is None else min(published, layers)


def half(kind: Callable[..., Any], *arguments: Any, **config: Any) -> Any:
    return make(lambda: kind(*arguments, **config), dtype=HALF)


def full(kind: Callable[..., Any], **config: Any) -> Any:
    return make(lambda: kind(**config))


def t5_tokenizer() -> Any:
    """Unigram tokenizer with single letters, inside and at the start of words; 100 sentinels as published."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(f"▁{letter}", -2.0) for letter in letters] + [(letter, -3.0) for letter in f"{letters}.,-0123456789"]
    return transformers.T5Tokenizer(vocab=pieces, extra_ids=100)


def t5(kind: str) -> Parts:
    """T5 v1.1 XXL (kind "T5") or UMT5 XXL (kind "UMT5")."""
    tokenizer = t5_tokenizer()
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer),
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_heads=64,
        num_layers=TEXT_LAYERS,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    return {"tokenizer": tokenizer, "text_encoder": half(getattr(transformers, f"{kind}EncoderModel"), config)}


def wan(layers: int | None, *, vae: Mapping[str, Any] | None = None, experts: int = 1, **config: Any) -> Any:
    size = {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40} | config
    size["num_layers"] = at_most(size["num_layers"], layers)
    transformer, second = (half(diffusers.WanTransformer3DModel, **size) if k < experts else None for k in range(2))
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=5.0 if vae else 3.0
    )
    return diffusers.WanPipeline(
        **t5("UMT5"),
        vae=full(diffusers.AutoencoderKLWan, **vae or {}),
        transformer=transformer,
        transformer_2=second,
        scheduler=scheduler,
        boundary_ratio=0.875 if experts == 2 else None,
        expand_timesteps=bool(vae),
    )


# VAE of TI2V 5B; means 0 and standard deviations 1 replace the published ones of its 48 channels.
WIDE: dict[str, Any] = {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "patch_size": 2}
WIDE |= {"in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}
WIDE |= {"latents_mean": [0.0] * 48, "latents_std": [1.0] * 48}


def cogvideox(layers: int | None, *, scaling: float, snr_shift: float, rotary: bool, **config: int) -> Any:
    vae = full(
        diffusers.AutoencoderKLCogVideoX,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(128, 256, 256, 512),
        latent_channels=16,
        scaling_factor=scaling,
    )
    config["num_layers"] = at_most(config["num_layers"], layers)
    transformer = half(diffusers.CogVideoXTransformer3DModel, **config, use_rotary_positional_embeddings=rotary)
    scheduler = diffusers.CogVideoXDDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        snr_shift_scale=snr_shift,
        timestep_spacing="trailing",
    )
    return diffusers.CogVideoXPipeline(**t5("T5"), vae=vae, transformer=transformer, scheduler=scheduler)


def ltx_video(layers: int | None) -> Any:
    return diffusers.LTXPipeline(
        **t5("T5"),
        vae=full(diffusers.AutoencoderKLLTXVideo),
        transformer=half(diffusers.LTXVideoTransformer3DModel, num_layers=at_most(28, layers)),
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05, base_image_seq_len=1024, shift_terminal=0.1
        ),
    )


def hunyuan_video15(layers: int | None) -> Any:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    text = transformers.Qwen2_5_VLTextConfig(  # the pipeline uses the output of the third-last layer
        vocab_size=len(tokenizer),
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=TEXT_LAYERS + 1,
        num_attention_heads=28,
        num_key_value_heads=4,
        rope_parameters={"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1000000.0},
        bos_token_id=None,
        eos_token_id=None,
    )
    glyphs = transformers.T5Config(
        vocab_size=1510,  # ByT5's bytes, and colours and fonts of glyphs
        d_model=1472,
        d_kv=64,
        d_ff=3584,
        num_layers=TEXT_LAYERS,
        num_heads=6,
        feed_forward_proj="gated-gelu",
    )
    return diffusers.HunyuanVideo15Pipeline(
        text_encoder=half(transformers.Qwen2_5_VLTextModel, text),
        tokenizer=tokenizer,
        transformer=half(diffusers.HunyuanVideo15Transformer3DModel, num_layers=at_most(54, layers), task_type="t2v"),
        vae=full(diffusers.AutoencoderKLHunyuanVideo15),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        text_encoder_2=half(transformers.T5EncoderModel, glyphs),
        tokenizer_2=transformers.ByT5Tokenizer(),
        guider=diffusers.ClassifierFreeGuidance(guidance_scale=6.0),
    )


def text_to_video_sd(layers: int | None) -> Any:
    tokenizer = clip_tokenizer()
    tokenizer.model_max_length = 77
    text = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=16,
        hidden_act="gelu",
        projection_dim=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    return diffusers.TextToVideoSDPipeline(
        vae=pictures_vae(),
        text_encoder=half(transformers.CLIPTextModel, text),
        tokenizer=tokenizer,
        unet=half(diffusers.UNet3DConditionModel, layers_per_block=at_most(2, layers), attention_head_dim=64),
        scheduler=scheduler,
    )


def pictures_vae() -> Any:
    """VAE of Stable Diffusion."""
    return full(
        diffusers.AutoencoderKL,
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        scaling_factor=0.18215,
    )


def save_pipeline(build: Callable[[int | None], Any], folder: Path, layers: int | None) -> None:
    build(layers).save_pretrained(folder, max_shard_size=SHARD)


def save_videocrafter2(folder: Path, layers: int | None) -> None:
    """Write `model.ckpt` with its authors' tensor names. The file determines the layers, so their number is fixed."""
    torch.save({"state_dict": _videocrafter2_tensors(), "global_step": 0}, folder / "model.ckpt")


def save_t2v_turbo(folder: Path, layers: int | None) -> None:
    """Write the same file, and `unet_lora.pt` with an up and a down matrix for every layer of the U-Net."""
    save_videocrafter2(folder, layers)
    tensors, lora = torch.load(folder / "model.ckpt", weights_only=True)["state_dict"], []
    weights = {}
    for name, value in tensors.items():
        if name.startswith(UNET) and name.endswith("weight"):
            weights[name] = value.shape
        if name == f"{UNET}fps_embedding.2.weight":
            weights["time_cond_proj.weight"] = torch.Size((value.shape[1] // 4, GUIDANCE_WIDTH))
    for out, into, *kernel in (shape for shape in weights.values() if len(shape) in (2, 4, 5)):
        lora.append(torch.zeros(out, TURBO_RANK, *[1] * len(kernel)))
        lora.append(torch.randn(TURBO_RANK, into, *kernel) / TURBO_RANK)
    torch.save([torch.nn.Parameter(value) for value in lora], folder / "unet_lora.pt")


def _videocrafter2_tensors() -> dict[str, torch.Tensor]:
    names = list(videocrafter2.unet_tensors())
    ours = half(VideoCrafterUNet).state_dict()
    theirs = from_original({name: torch.tensor(number) for number, name in enumerate(names)})
    tensors = {f"{UNET}{names[int(number)]}": ours[name] for name, number in theirs.items()}
    # The authors' order, which the LoRA of T2V-Turbo follows.
    tensors = {f"{UNET}{name}": tensors[f"{UNET}{name}"] for name in names}
    vae = videocrafter2.vae_tensors(pictures_vae())
    tensors |= {f"first_stage_model.{name}": value for name, value in vae.items()}
    size = {"context_length": 77, "width": 1024, "heads": 16, "layers": TEXT_LAYERS + 1, "output_dim": 1024}
    tower = half(TextTransformer, **size)
    text = tower.state_dict() | {"logit_scale": torch.ones(())}
    return tensors | {f"cond_stage_model.model.{name}": value for name, value in text.items()}


COGVIDEOX_2B = partial(cogvideox, scaling=1.15258426, snr_shift=3.0, rotary=False, num_layers=30)
COGVIDEOX_5B = partial(cogvideox, scaling=0.7, snr_shift=1.0, rotary=True, num_layers=42, num_attention_heads=48)
WAN_1_3B = partial(wan, num_attention_heads=12, ffn_dim=8960, num_layers=30)
WAN_5B = partial(wan, vae=WIDE, num_attention_heads=24, ffn_dim=14336, num_layers=30, in_channels=48, out_channels=48)
BUILDERS: dict[str, Callable[[Path, int | None], None]] = {
    "config.yaml": partial(save_pipeline, WAN_1_3B),
    "wan2.1-14b": partial(save_pipeline, wan),
    "wan2.2-a14b": partial(save_pipeline, partial(wan, experts=2)),
    "wan2.2-ti2v-5b": partial(save_pipeline, WAN_5B),
    "cogvideox-2b": partial(save_pipeline, COGVIDEOX_2B),
    "cogvideox-5b": partial(save_pipeline, COGVIDEOX_5B),
    "ltx-video": partial(save_pipeline, ltx_video),
    "hunyuan-video-1.5": partial(save_pipeline, hunyuan_video15),
    "modelscope": partial(save_pipeline, text_to_video_sd),
    "zeroscope": partial(save_pipeline, text_to_video_sd),
    "videocrafter2": save_videocrafter2,
    "t2v-turbo": save_t2v_turbo,
}
"""By preset: function that writes the model's folder, with at most the given number of denoiser layers."""
