"""VideoCrafter2 as a diffusers pipeline, from the single file that its authors publish.

Legend: B batch, C latent channel, F frame, H, W; L text token, D text channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiffusionPipeline, ModelMixin
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from diffusers.video_processor import VideoProcessor
from open_clip.transformer import TextTransformer

from videodpo.config.errors import InputError
from videodpo.models.shared.videocrafter_unet import VideoCrafterUNet, from_original
from videodpo.runtime.compat.diffusers import convert_original_vae
from videodpo.weights.checkpoints import names_of, read_checkpoint

UNET = "model.diffusion_model."  # prefix of the U-Net's tensors
SCALING_FACTOR = 0.18215
HEAD_WIDTH = 64  # of the text tower, ViT-H/14
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_LAST_SCALE, _SCALE_STEPS = 0.7, 400


class VideoCrafterScheduler(DDIMScheduler):  # type: ignore[misc]
    """DDIM with latents scaled by a factor that falls from 1 to 0.7 over the first 400 timesteps."""

    def __init__(self) -> None:
        super().__init__(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
        falling = torch.linspace(1.0, _LAST_SCALE, _SCALE_STEPS)
        rest = self.config.num_train_timesteps - _SCALE_STEPS
        self.signal_scale = torch.cat([falling, torch.full((rest,), _LAST_SCALE)])

    def step(self, model_output: torch.Tensor, timestep: int, sample: torch.Tensor, **options: Any) -> Any:
        """Take a DDIM step, and correct its estimate of the latents from this timestep's scale to the next one's."""
        found = super().step(model_output, timestep, sample, **options)
        before = timestep - self.config.num_train_timesteps // self.num_inference_steps
        scale_before = self.signal_scale[max(int(before), 0)]
        alpha_before = self.alphas_cumprod[before] if before >= 0 else self.final_alpha_cumprod
        change = alpha_before.sqrt() * (scale_before / self.signal_scale[timestep] - 1)
        moved = found.prev_sample + change.to(sample) * found.pred_original_sample
        return DDIMSchedulerOutput(prev_sample=moved, pred_original_sample=found.pred_original_sample)


class PenultimateText(ModelMixin):  # type: ignore[misc]
    """open_clip's text tower without its last layer, as in the U-Net's training; tokens [B, L] to [B, L, D]."""

    def __init__(self, tower: TextTransformer) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, tokens_BL: torch.Tensor) -> torch.Tensor:
        found = self.tower.forward_intermediates(
            tokens_BL,
            indices=[self.tower.transformer.layers - 2],
            stop_early=True,
            normalize_intermediates=True,
            intermediates_only=True,
            output_fmt="NLC",
        )
        states_BLD: torch.Tensor = found["text_intermediates"][0]
        return states_BLD


class VideoCrafterPipeline(DiffusionPipeline, StableDiffusionLoraLoaderMixin):  # type: ignore[misc]
    """Text to video. `from_original` reads `model.ckpt`; `load_lora_weights` reads a LoRA."""

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: PenultimateText,
        tokenizer: open_clip.SimpleTokenizer,
        unet: VideoCrafterUNet,
        scheduler: VideoCrafterScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)

    @classmethod
    def from_original(
        cls, path: Path, dtype: torch.dtype = torch.float32, unet_dtype: torch.dtype | None = None
    ) -> VideoCrafterPipeline:
        """Read the authors' file. Network sizes follow from the tensors. The VAE stays in float32.

        Args:
            path: `model.ckpt`.
            dtype: type of the text tower, and of the U-Net unless `unet_dtype` is given.
            unet_dtype: type of the U-Net.

        Raises:
            InputError: the file is not readable, or its tensors do not match in names or shapes.
        """
        return cls(**cls._parts(read_checkpoint(path), path, dtype, unet_dtype or dtype))

    @staticmethod
    def _parts(
        tensors: dict[str, torch.Tensor], path: Path, dtype: torch.dtype, unet_dtype: torch.dtype
    ) -> dict[str, Any]:
        """Return the arguments of the constructor."""

        def part(prefix: str) -> dict[str, torch.Tensor]:
            return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

        try:
            unet = _unet(part(UNET))
            vae = _vae(part("first_stage_model."))
            text = _text_encoder(part("cond_stage_model.model."))
        except (KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            there = names_of(tensors)
            raise InputError(
                f"model.weights: {path}: not VideoCrafter2's tensors ({reason}); the file has {there}"
            ) from error
        return {
            "vae": vae,
            "text_encoder": _cast(text, dtype),
            "tokenizer": open_clip.SimpleTokenizer(context_length=text.tower.context_length),
            "unet": _cast(unet, unet_dtype),
            "scheduler": VideoCrafterScheduler(),
        }

    @torch.no_grad()
    def encode_prompt(self, prompts: Sequence[str]) -> torch.Tensor:
        """Encode prompts to [B, L, D]; longer ones are truncated."""
        encoded: torch.Tensor = self.text_encoder(self.tokenizer(list(prompts)).to(self.device))
        return encoded

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        num_inference_steps: int = 50,
        guidance_scale: float = 12.0,
        eta: float = 1.0,
        fps: float = 28.0,
        **options: Any,
    ) -> SimpleNamespace:
        """Sample clips.

        Args:
            fps: frames per second that the network is conditioned on.
            eta: share of fresh noise at each step; 0 is deterministic DDIM.
            options: other arguments of `_denoise`.
        """
        self.scheduler.set_timesteps(num_inference_steps, device=self.device)
        return self._denoise(prompt, conditions={"fps": fps}, guidance_scale=guidance_scale, eta=eta, **options)

    def _denoise(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        conditions: Mapping[str, float],
        guidance_scale: float,
        prompt_embeds: torch.Tensor | None = None,
        negative_prompt: str = "",
        negative_prompt_embeds: torch.Tensor | None = None,
        num_frames: int = 16,
        height: int = 320,
        width: int = 512,
        latents: torch.Tensor | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        output_type: str = "np",
        **step_options: float,
    ) -> SimpleNamespace:
        """Sample clips; `.frames` has the format of diffusers' pipelines for `output_type`: np, pt, pil or latent.

        Args:
            conditions: conditioning of the network in addition to time and text, by name.
            prompt_embeds, negative_prompt_embeds: [B, L, D], instead of the texts.
            latents: initial noise.
            generator: one generator, or one per clip.
            step_options: additional arguments of the scheduler's step.
        """
        device = self.device
        if prompt_embeds is None:
            prompt_embeds = self.encode_prompt([prompt] if isinstance(prompt, str) else prompt or [""])
        num_clips = len(prompt_embeds)
        if negative_prompt_embeds is None and guidance_scale > 1:
            negative_prompt_embeds = self.encode_prompt([negative_prompt] * num_clips)
        if latents is None:
            shape = (num_clips, self.unet.config.in_channels, num_frames, height // 8, width // 8)
            latents = randn_tensor(shape, generator=generator, device=device, dtype=prompt_embeds.dtype)
        latents = latents.to(device, prompt_embeds.dtype)
        conditions_B = {name: torch.full((num_clips,), value, device=device) for name, value in conditions.items()}
        for timestep in self.progress_bar(self.scheduler.timesteps):
            ask = partial(self.unet, latents, timestep, return_dict=False, **conditions_B)
            noise = ask(encoder_hidden_states=prompt_embeds)[0]
            if guidance_scale > 1:
                unguided = ask(encoder_hidden_states=negative_prompt_embeds)[0]
                noise = unguided + guidance_scale * (noise - unguided)
            latents = self.scheduler.step(noise, timestep, latents, generator=generator, **step_options).prev_sample
        if output_type == "latent":
            return SimpleNamespace(frames=latents)
        pictures = latents.transpose(1, 2).flatten(0, 1).to(self.vae.dtype) / self.vae.config.scaling_factor
        pixels = self.vae.decode(pictures, return_dict=False)[0]
        clips_BCTYX = pixels.view(num_clips, -1, *pixels.shape[1:]).transpose(1, 2)
        return SimpleNamespace(frames=VideoProcessor().postprocess_video(clips_BCTYX, output_type=output_type))


def _cast(network: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Cast as torch does: diffusers' own `to` warns about layers to keep in float32 even if there are none."""
    return torch.nn.Module.to(network, dtype).eval()


def _unet(tensors: dict[str, torch.Tensor]) -> VideoCrafterUNet:
    renamed = from_original(tensors)
    levels = 1 + max(int(name.split(".")[1]) for name in renamed if name.startswith("down_blocks."))
    inner = len(renamed["transformer_in.proj_in.weight"])
    guidance = renamed.get("time_embedding.time.cond_proj.weight")
    unet: VideoCrafterUNet = VideoCrafterUNet(
        block_out_channels=tuple(len(renamed[f"down_blocks.{level}.resnets.0.conv1.bias"]) for level in range(levels)),
        cross_attention_dim=renamed["mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        attention_head_dim=inner // 8,
        guidance_width=guidance.shape[1] if guidance is not None else None,
    )
    unet.load_state_dict(renamed)
    return unet


def _vae(tensors: dict[str, torch.Tensor]) -> AutoencoderKL:
    levels = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.down."))
    config = {
        "block_out_channels": tuple(
            len(tensors[f"encoder.down.{level}.block.0.conv1.bias"]) for level in range(levels)
        ),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": 1 + max(int(name.split(".")[4]) for name in tensors if name.startswith("encoder.down.0.b")),
        "latent_channels": tensors["post_quant_conv.weight"].shape[0],
        "scaling_factor": SCALING_FACTOR,
    }
    vae = AutoencoderKL(**config)
    # The file also has tensors of the training loss.
    own = {name: value for name, value in tensors.items() if not name.startswith("loss.")}
    vae.load_state_dict(convert_original_vae(own, vae.config))
    return vae.float().eval()


def _text_encoder(tensors: dict[str, torch.Tensor]) -> PenultimateText:
    own = {name: value for name, value in tensors.items() if name != "logit_scale" and not name.startswith("visual.")}
    context, width = own["positional_embedding"].shape
    tower = TextTransformer(
        context_length=context,
        vocab_size=len(own["token_embedding.weight"]),
        width=width,
        heads=width // HEAD_WIDTH,
        layers=1 + max(int(name.split(".")[2]) for name in own if name.startswith("transformer.resblocks.")),
        output_dim=own["text_projection"].shape[1],
    )
    own.setdefault("attn_mask", tower.attn_mask)
    tower.load_state_dict({name: own[name] for name in own if name in tower.state_dict() or name != "attn_mask"})
    return PenultimateText(tower)
