"""Wan text-to-video through diffusers' WanPipeline: flow matching, velocity target.

Legend: see `videodpo.models.base`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from videodpo.config import Model, Sampling, Section, validate
from videodpo.config.errors import InputError
from videodpo.config.section import PositiveReal
from videodpo.models.base import PromptEmbeds
from videodpo.models.shared.adapters import lora_file
from videodpo.models.shared.pipeline_model import Compression, Config, PipelineModel, read_config
from videodpo.weights.locations import NotFetched, resolve

if TYPE_CHECKING:
    import torch


class WanModel(PipelineModel):
    """Wan 2.1 T2V of any size, Wan 2.2 TI2V 5B, or the two experts of Wan 2.2 A14B, depending on the folder."""

    version = "1"
    pipeline = "WanPipeline"
    takes_flow_shift = True
    networks = ("transformer", "transformer_2")
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0", "ffn.net.0.proj", "ffn.net.2")

    class Options(Section):
        """Options of the pipeline call."""

        guidance_scale_2: PositiveReal | None = None
        """Guidance scale of the low-noise expert; null uses that of the other expert."""

    @classmethod
    def check(cls, settings: Model, sampling: Sampling) -> None:
        super().check(settings, sampling)
        if validate(cls.Options, settings.options, "model.options").guidance_scale_2 is None:
            return
        if sampling.guidance_scale <= 1:
            raise InputError(
                "model.options.guidance_scale_2: generate.sampling.guidance_scale 1 turns guidance off for both experts"
            )
        try:
            index = read_config(resolve(settings.weights) / cls.index)
        except NotFetched:
            return
        if index.get("boundary_ratio") is None:
            raise InputError(f"model.options.guidance_scale_2: {settings.weights} has one expert; use null")

    @staticmethod
    def compression(vae: Config, denoiser: Config) -> Compression:
        # Older VAE configs omit keys at diffusers' defaults.
        time, space = vae.get("scale_factor_temporal", 4), vae.get("scale_factor_spatial", 8)
        return Compression(time, space, denoiser.get("patch_size", (1, 2, 2))[1], step=time)

    def make_denoiser(self) -> Any:
        from videodpo.models.shared.experts import Experts

        if self.pipe.transformer_2 is None:
            return self.pipe.transformer
        self.leaves_weights_out = self.parts_by_noise_level = True
        boundary = self.pipe.config.boundary_ratio * self.pipe.scheduler.config.num_train_timesteps
        return Experts(self.pipe.transformer, self.pipe.transformer_2, boundary)

    def load_lora(self, name: str, folder: Path) -> None:
        self.pipe.load_lora_weights(
            folder, weight_name=lora_file(name), load_into_transformer_2=name == "transformer_2"
        )

    @property
    def latent_channels(self) -> int:
        channels: int = self._vae_config["z_dim"]
        return channels

    def call_options(self, sampling: Sampling) -> dict[str, Any]:
        options = super().call_options(sampling)
        if self._options.guidance_scale_2 is not None:
            options["guidance_scale_2"] = self._options.guidance_scale_2
        return options

    def predict(self, noisy_BCFHW: torch.Tensor, noise_level_B: torch.Tensor, text: PromptEmbeds) -> torch.Tensor:
        timestep = self.noise_schedule.timestep(noise_level_B.to(self.device))
        if self.pipe.config.expand_timesteps:  # Wan 2.2 TI2V takes one timestep per token
            _, _, frames, height, width = noisy_BCFHW.shape
            patch = self._compression.patch
            timestep = timestep[:, None].expand(-1, frames * (height // patch) * (width // patch))
        prediction: torch.Tensor = self.denoiser(
            hidden_states=noisy_BCFHW.to(self.dtype),
            timestep=timestep,
            encoder_hidden_states=text["prompt_embeds"].to(self.dtype),
            return_dict=False,
        )[0]
        return prediction

    def scale(self, raw_BCFHW: torch.Tensor) -> torch.Tensor:
        mean, std = self._latent_statistics(raw_BCFHW)
        return (raw_BCFHW - mean) / std

    def unscale(self, latents_BCFHW: torch.Tensor) -> torch.Tensor:
        mean, std = self._latent_statistics(latents_BCFHW)
        return latents_BCFHW * std + mean

    def _latent_statistics(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        config = self.pipe.vae.config
        mean, std = (
            like.new_tensor(values).view(1, -1, 1, 1, 1) for values in (config.latents_mean, config.latents_std)
        )
        return mean, std
