"""CogVideoX 2B and 5B through diffusers' CogVideoXPipeline: discrete diffusion, v target.

Legend: see `videodpo.models.base`. The pipeline's latents are [B, F, C, H, W].
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from videodpo.config import Model, Sampling, Section, validate
from videodpo.config.errors import InputError
from videodpo.models.base import PromptEmbeds
from videodpo.models.shared.pipeline_model import Compression, Config, PipelineModel, load_scheduler, read_config
from videodpo.runtime.compat.diffusers import cogvideox_positions
from videodpo.weights.locations import NotFetched, resolve

if TYPE_CHECKING:
    import torch

    from videodpo.models.shared.noise_schedules import NoiseSchedule


class CogVideoXModel(PipelineModel):
    """CogVideoX 2B has fixed position embeddings, 5B rotary ones. The denoiser's `config.json` specifies which."""

    version = "2"
    pipeline = "CogVideoXPipeline"
    layers = ("CogVideoXBlock",)

    class Options(Section):
        """Options of the pipeline call."""

        scheduler: Literal["ddim", "dpm"] | None = None
        """Scheduler of the sampler; null uses the one in the folder. The authors use ddim for 2B and dpm for 5B."""
        dynamic_guidance: bool = False
        """Increase guidance over the steps from 1 to 1 + guidance_scale. The authors use this with dpm only."""

    @classmethod
    def check(cls, settings: Model, sampling: Sampling) -> None:
        super().check(settings, sampling)
        options = validate(cls.Options, settings.options, "model.options")
        if options.dynamic_guidance and sampling.guidance_scale <= 1:
            raise InputError(
                "model.options.dynamic_guidance: true, but generate.sampling.guidance_scale 1 turns guidance off; "
                "use a scale above 1 or false"
            )
        try:
            config = read_config(resolve(settings.weights) / "transformer" / "config.json")
        except NotFetched:
            return
        tokens = config.get("max_text_seq_length", 226)
        if not config.get("use_rotary_positional_embeddings") and settings.max_sequence_length != tokens:
            raise InputError(
                f"model.max_sequence_length: {settings.max_sequence_length}; {settings.weights} takes {tokens} only"
            )

    @staticmethod
    def compression(vae: Config, denoiser: Config) -> Compression:
        if denoiser.get("patch_size_t") is not None:
            raise InputError(
                "model.weights: CogVideoX 1.5, which groups latent frames, is not supported; use CogVideoX 2B or 5B"
            )
        space = 2 ** (len(vae.get("block_out_channels", (128, 256, 256, 512))) - 1)
        time = int(vae.get("temporal_compression_ratio", 4))
        # The VAE decodes latents in pairs, an odd one first. An even number of latents would give too many frames.
        return Compression(time, space, denoiser.get("patch_size", 2), step=2 * time)

    @classmethod
    def make_schedule(cls, folder: Path) -> NoiseSchedule:
        from videodpo.models.shared.noise_schedules import Diffusion

        scheduler = load_scheduler(folder)
        return Diffusion(scheduler.alphas_cumprod, scheduler.config.prediction_type)

    @classmethod
    def load_sampler(cls, settings: Model) -> Any:
        from videodpo.models.shared.cogvideox_pipeline import scheduler_of

        scheduler = super().load_sampler(settings)
        name = validate(cls.Options, settings.options, "model.options").scheduler
        return scheduler if name is None else scheduler_of(name, scheduler)

    def pipeline_class(self) -> Any:
        if not self._options.dynamic_guidance:
            return super().pipeline_class()
        from videodpo.models.shared.cogvideox_pipeline import GrowingGuidancePipeline

        return GrowingGuidancePipeline

    def load_pipeline(self, folder: Path, **components: Any) -> Any:
        from videodpo.models.shared.cogvideox_pipeline import scheduler_of

        pipe = super().load_pipeline(folder, **components)
        if self._options.scheduler is not None:
            pipe.register_modules(scheduler=scheduler_of(self._options.scheduler, pipe.scheduler))
        return pipe

    def encode_texts(self, prompt: str) -> Sequence[torch.Tensor]:
        encoded = super().encode_texts(prompt)
        # The model was trained with zeros as the empty prompt, and its authors use them as negative prompt. diffusers
        # would encode "" with T5.
        return encoded if prompt else [text_1LD.new_zeros(text_1LD.shape) for text_1LD in encoded]

    def to_pipeline(self, latents_BCFHW: torch.Tensor) -> torch.Tensor:
        return latents_BCFHW.transpose(1, 2).to(self.dtype)

    def from_pipeline(self, latents: torch.Tensor, sampling: Sampling) -> torch.Tensor:
        return latents.transpose(1, 2)

    def predict(self, noisy_BCFHW: torch.Tensor, noise_level_B: torch.Tensor, text: PromptEmbeds) -> torch.Tensor:
        rotary = None
        if self.pipe.transformer.config.use_rotary_positional_embeddings:
            _, _, frames, height, width = noisy_BCFHW.shape
            space = self._compression.space
            rotary = cogvideox_positions(self.pipe, height * space, width * space, frames, self.device)
        prediction: torch.Tensor = self.denoiser(
            hidden_states=self.to_pipeline(noisy_BCFHW),
            encoder_hidden_states=text["prompt_embeds"].to(self.dtype),
            timestep=self.noise_schedule.timestep(noise_level_B.to(self.device)),
            image_rotary_emb=rotary,
            return_dict=False,
        )[0]
        return prediction.transpose(1, 2)
