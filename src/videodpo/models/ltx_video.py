"""LTX-Video through diffusers' LTXPipeline: flow matching, velocity target.

Legend: see `videodpo.models.base`. The pipeline packs latents into tokens [B, F * H * W, C].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import Field

from videodpo.config import Model, Sampling, Section
from videodpo.config.errors import InputError
from videodpo.config.section import Real
from videodpo.models.base import PromptEmbeds
from videodpo.models.shared.pipeline_model import Compression, Config, PipelineModel, read_config
from videodpo.runtime.compat.diffusers import pack_ltx, unpack_ltx
from videodpo.weights.locations import resolve

if TYPE_CHECKING:
    import torch


class LtxVideoModel(PipelineModel):
    """LTX-Video as in its first releases: text to video, without conditioning frames."""

    version = "2"
    pipeline = "LTXPipeline"
    takes_flow_shift = True
    text_names = ("prompt_embeds", "prompt_attention_mask")

    class Options(Section):
        """Options of the pipeline call."""

        frame_rate: Real = Field(25.0, gt=0)
        """Frames per second that the denoiser is conditioned on."""

    @staticmethod
    def compression(vae: Config, denoiser: Config) -> Compression:
        blocks = vae.get("spatio_temporal_scaling", (True, True, True, False))
        doublings, patch = sum(blocks), vae.get("patch_size", 4)
        time = vae.get("temporal_compression_ratio") or vae.get("patch_size_t", 1) * 2**doublings
        space = vae.get("spatial_compression_ratio") or patch * 2**doublings
        return Compression(time, space, denoiser.get("patch_size", 1), step=time)

    @classmethod
    def set_timesteps(cls, scheduler: Any, settings: Model, sampling: Sampling) -> None:
        import numpy as np
        from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift

        folder, config = resolve(settings.weights), scheduler.config
        vae, denoiser = (read_config(folder / part / "config.json") for part in ("vae", cls.networks[0]))
        time, space, _, _ = cls.compression(vae, denoiser)
        frames = (sampling.num_frames - 1) // time + 1
        tokens = frames * (sampling.height // space) * (sampling.width // space)
        bounds = (config.base_image_seq_len, config.max_image_seq_len, config.base_shift, config.max_shift)
        scheduler.set_timesteps(
            sigmas=np.linspace(1.0, 1 / sampling.num_steps, sampling.num_steps), mu=calculate_shift(tokens, *bounds)
        )

    def encode_texts(self, prompt: str) -> Sequence[torch.Tensor]:
        """Mask the padding in T5 too, as the authors do. diffusers' `encode_prompt` leaves that mask out."""
        tokens = self.pipe.tokenizer(
            [prompt], padding="max_length", max_length=self.max_sequence_length, truncation=True, return_tensors="pt"
        ).to(self.device)
        text_1LD = self.pipe.text_encoder(tokens.input_ids, attention_mask=tokens.attention_mask)[0].to(self.dtype)
        mask_1L = tokens.attention_mask.bool()
        return text_1LD * mask_1L[..., None], mask_1L

    def enable_context_parallel(self, degree: int) -> None:
        # diffusers' plan splits the text mask over the ranks, but attention on each rank needs the full mask.
        raise InputError(
            f"train_runtime.context_parallel: {degree}, but LTX-Video's masked text cannot be split; use 1"
        )

    def call_options(self, sampling: Sampling) -> dict[str, Any]:
        return {**super().call_options(sampling), "frame_rate": self._options.frame_rate}

    def to_pipeline(self, latents_BCFHW: torch.Tensor) -> torch.Tensor:
        return pack_ltx(latents_BCFHW, *self._patches())

    def from_pipeline(self, latents: torch.Tensor, sampling: Sampling) -> torch.Tensor:
        return self._unpack(latents, *self.latent_shape(sampling)[1:])

    def _unpack(self, tokens: torch.Tensor, frames: int, height: int, width: int) -> torch.Tensor:
        patch, patch_t = self._patches()
        grid = (frames // patch_t, height // patch, width // patch)
        return unpack_ltx(tokens, *grid, patch, patch_t)

    def _patches(self) -> tuple[int, int]:
        return self.pipe.transformer_spatial_patch_size, self.pipe.transformer_temporal_patch_size

    def predict(self, noisy_BCFHW: torch.Tensor, noise_level_B: torch.Tensor, text: PromptEmbeds) -> torch.Tensor:
        _, _, frames, height, width = noisy_BCFHW.shape
        time, space, _, _ = self._compression
        tokens: torch.Tensor = self.denoiser(
            hidden_states=self.to_pipeline(noisy_BCFHW).to(self.dtype),
            encoder_hidden_states=text["prompt_embeds"].to(self.dtype),
            timestep=self.noise_schedule.timestep(noise_level_B.to(self.device)),
            encoder_attention_mask=text["prompt_attention_mask"],
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=(time / self._options.frame_rate, space, space),
            return_dict=False,
        )[0]
        return self._unpack(tokens, frames, height, width)

    def decode_raw(self, raw_BCFHW: torch.Tensor) -> torch.Tensor:
        # Later VAEs take a noise level. 0, the pipeline's default, means clean latents.
        noise_level = raw_BCFHW.new_zeros(len(raw_BCFHW)) if self.pipe.vae.config.timestep_conditioning else None
        pixels: torch.Tensor = self.pipe.vae.decode(raw_BCFHW, noise_level, return_dict=False)[0]
        return pixels

    def scale(self, raw_BCFHW: torch.Tensor) -> torch.Tensor:
        mean, std = self._latent_statistics(raw_BCFHW)
        scaled: torch.Tensor = (raw_BCFHW - mean) * self.pipe.vae.config.scaling_factor / std
        return scaled

    def unscale(self, latents_BCFHW: torch.Tensor) -> torch.Tensor:
        mean, std = self._latent_statistics(latents_BCFHW)
        raw: torch.Tensor = latents_BCFHW * std / self.pipe.vae.config.scaling_factor + mean
        return raw

    def _latent_statistics(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vae = self.pipe.vae
        mean, std = (values.to(like).view(1, -1, 1, 1, 1) for values in (vae.latents_mean, vae.latents_std))
        return mean, std
