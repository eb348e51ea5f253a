"""A tiny random pipeline of every model family's real classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    AutoencoderKLHunyuanVideo15,
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    ClassifierFreeGuidance,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideo15Pipeline,
    HunyuanVideo15Transformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    TextToVideoSDPipeline,
    UNet3DConditionModel,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    ByT5Tokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    Qwen2_5_VLTextConfig,
    Qwen2_5_VLTextModel,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from demo.recipe import tokenizer as bpe
from tests.support import videocrafter2
from videodpo.config import Sampling
from videodpo.models.shared.t2v_turbo_pipeline import T2VTurboPipeline
from videodpo.models.shared.videocrafter_pipeline import VideoCrafterPipeline

TEXT_DIM, TEXT_TOKENS = 16, 16
NO_LENGTH, NO_GUIDANCE = "max_sequence_length", "guidance_scale"
WANS = ("2.1", "2.2-ti2v", "2.2-a14b")


@dataclass(frozen=True)
class Family:
    """Builder of a family's tiny pipeline, and its sampling settings."""

    family: str
    make: Callable[[], Any]
    sampling: Sampling
    call: dict[str, Any]
    """Arguments of the plain pipeline's call, in addition to the prompt, the size and the steps."""
    without: tuple[str, ...] = ()
    """Arguments that the plain pipeline does not accept."""
    text_tokens: int = TEXT_TOKENS

    def plain(self, folder: Path) -> Any:
        """Load the plain pipeline, without the family's adapter class."""
        if self.family == "videocrafter2":
            return VideoCrafterPipeline.from_original(folder / "model.ckpt")
        if self.family == "t2v_turbo":
            return T2VTurboPipeline.from_originals(folder / "model.ckpt", folder / "unet_lora.pt")
        pipe = DiffusionPipeline.from_pretrained(folder)
        if self.family == "ltx_video":
            mask_padding(pipe)
        return pipe


def mask_padding(pipe: LTXPipeline) -> None:
    """Pass the padding mask to T5, as LTX-Video's authors do and diffusers does not."""

    def add_mask(encoder: Any, args: tuple[torch.Tensor, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"attention_mask": (args[0] != pipe.tokenizer.pad_token_id).long()}

    pipe.text_encoder.register_forward_pre_hook(add_mask, with_kwargs=True)


def sampling(num_frames: int, height: int, width: int, **more: Any) -> Sampling:
    common: dict[str, Any] = {"num_steps": 3, "guidance_scale": 3.0, "negative_prompt": "blurred"}
    return Sampling(num_frames=num_frames, height=height, width=width, **common | more)


def t5() -> dict[str, Any]:
    tokenizer = bpe.build()
    config = T5Config(vocab_size=len(tokenizer), d_model=TEXT_DIM, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return {"tokenizer": tokenizer, "text_encoder": T5EncoderModel(config)}


def cogvideox(rotary: bool) -> CogVideoXPipeline:
    vae = AutoencoderKLCogVideoX(
        in_channels=3,
        out_channels=3,
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=4,
        scaling_factor=0.7,
    )
    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=TEXT_DIM,
        num_layers=2,
        sample_width=8,
        sample_height=4,
        sample_frames=9,
        patch_size=2,
        temporal_compression_ratio=4,
        max_text_seq_length=TEXT_TOKENS,
        use_rotary_positional_embeddings=rotary,
    )
    schedule = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "snr_shift_scale": 3.0}
    schedule |= {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "timestep_spacing": "trailing",
    }
    scheduler = (CogVideoXDPMScheduler if rotary else CogVideoXDDIMScheduler)(**schedule)
    return CogVideoXPipeline(vae=vae, transformer=transformer, scheduler=scheduler, **t5())


def wan(kind: str) -> WanPipeline:
    channels = 4
    vae = AutoencoderKLWan(
        base_dim=4,
        z_dim=channels,
        dim_mult=[1, 2, 2],
        num_res_blocks=1,
        attn_scales=[],
        temperal_downsample=[True, True],
        latents_mean=[0.1] * channels,
        latents_std=[0.7] * channels,
        scale_factor_spatial=4,
        scale_factor_temporal=4,
    )

    def transformer() -> WanTransformer3DModel:
        return WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=channels,
            out_channels=channels,
            text_dim=TEXT_DIM,
            freq_dim=16,
            ffn_dim=32,
            num_layers=2,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=32,
        )

    tokenizer = bpe.build()
    config = UMT5Config(vocab_size=len(tokenizer), d_model=TEXT_DIM, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=UMT5EncoderModel(config),
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=2.0),
        transformer=transformer(),
        transformer_2=transformer() if kind == "2.2-a14b" else None,
        boundary_ratio=0.7 if kind == "2.2-a14b" else None,
        expand_timesteps=kind == "2.2-ti2v",
    )


def ltx_video() -> LTXPipeline:
    vae = AutoencoderKLLTXVideo(
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        scaling_factor=1.3,
    )
    vae.latents_mean.fill_(0.1)
    vae.latents_std.fill_(0.7)
    transformer = LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=2,
        caption_channels=TEXT_DIM,
    )
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, base_shift=0.95, max_shift=2.05)
    return LTXPipeline(vae=vae, transformer=transformer, scheduler=scheduler, **t5())


def hunyuan_video15() -> HunyuanVideo15Pipeline:
    tokenizer = bpe.build()
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    text = Qwen2_5_VLTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_DIM,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        rope_parameters={"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
    )
    glyphs = T5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    vae = AutoencoderKLHunyuanVideo15(
        latent_channels=4,
        block_out_channels=(16, 16, 16, 16),
        layers_per_block=1,
        spatial_compression_ratio=8,
        temporal_compression_ratio=4,
    )
    transformer = HunyuanVideo15Transformer3DModel(
        in_channels=9,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=2,
        num_refiner_layers=1,
        text_embed_dim=TEXT_DIM,
        text_embed_2_dim=16,
        image_embed_dim=8,
        rope_axes_dim=(4, 6, 6),
        task_type="t2v",
    )
    return HunyuanVideo15Pipeline(
        text_encoder=Qwen2_5_VLTextModel(text),
        tokenizer=tokenizer,
        transformer=transformer,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        text_encoder_2=T5EncoderModel(glyphs),
        tokenizer_2=ByT5Tokenizer(),
        guider=ClassifierFreeGuidance(guidance_scale=3.0),
    )


def text_to_video_sd() -> TextToVideoSDPipeline:
    unet = UNet3DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        cross_attention_dim=TEXT_DIM,
        attention_head_dim=4,
        norm_num_groups=2,
    )
    vae = AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        norm_num_groups=2,
        scaling_factor=0.18215,
    )
    tokenizer = bpe.build()
    tokenizer.model_max_length = TEXT_TOKENS
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_DIM,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=TEXT_TOKENS,
    )
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    return TextToVideoSDPipeline(
        vae=vae, text_encoder=CLIPTextModel(text), tokenizer=tokenizer, unet=unet, scheduler=DDIMScheduler(**schedule)
    )


FAMILIES = {
    **{f"wan-{kind}": Family("wan", partial(wan, kind), sampling(5, 32, 48), {}) for kind in WANS},
    "cogvideox-2b": Family("cogvideox", lambda: cogvideox(rotary=False), sampling(9, 32, 64), {}),
    "cogvideox-5b": Family("cogvideox", lambda: cogvideox(rotary=True), sampling(9, 48, 64), {}),
    "hunyuan_video15": Family("hunyuan_video15", hunyuan_video15, sampling(5, 32, 48), {}, (NO_LENGTH, NO_GUIDANCE)),
    "text_to_video_sd": Family("text_to_video_sd", text_to_video_sd, sampling(4, 32, 48), {}, (NO_LENGTH,)),
    "videocrafter2": Family("videocrafter2", videocrafter2.make, sampling(4, 64, 64), {}, (NO_LENGTH,), 77),
    "t2v_turbo": Family(
        "t2v_turbo",
        videocrafter2.make_turbo,
        sampling(4, 64, 64, guidance_scale=1.0, num_steps=4),
        {},
        (NO_LENGTH, NO_GUIDANCE, "negative_prompt"),
        77,
    ),
    "ltx_video": Family("ltx_video", ltx_video, sampling(9, 64, 96), {"frame_rate": 25.0}),
}


def write(family: Family, folder: Path) -> Path:
    torch.manual_seed(0)
    pipe = family.make()
    if isinstance(pipe, dict):
        for name, content in pipe.items():
            torch.save(content, folder / name)
        return folder
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            for parameter in part.parameters():  # layers that are all zero would hide errors in their inputs
                if not parameter.any():
                    torch.nn.init.normal_(parameter, std=0.1)
    pipe.save_pretrained(folder)
    return folder
