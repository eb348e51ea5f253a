"""ModelScope and Zeroscope through diffusers' TextToVideoSDPipeline: discrete diffusion, noise target.

Legend: see `videodpo.models.base`. The VAE is Stable Diffusion's, which encodes each frame as an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videodpo.config import Model, Sampling
from videodpo.config.errors import InputError
from videodpo.models.base import PromptEmbeds
from videodpo.models.shared.adapters import lora_file
from videodpo.models.shared.pipeline_model import Compression, Config, PipelineModel, load_scheduler, read_config
from videodpo.weights.locations import NotFetched, resolve

if TYPE_CHECKING:
    import torch

    from videodpo.models.shared.noise_schedules import NoiseSchedule


class TextToVideoSdModel(PipelineModel):
    """The pipeline is deprecated in diffusers, and its `load_lora_weights` does not support this U-Net."""

    version = "1"
    pipeline = "TextToVideoSDPipeline"
    networks = ("unet",)
    layers = ("BasicTransformerBlock",)  # not convolutions: they would need a graph for each pair of widths
    sharded_layers = ("BasicTransformerBlock", "ResnetBlock2D", "TemporalConvLayer")

    @classmethod
    def check(cls, settings: Model, sampling: Sampling) -> None:
        super().check(settings, sampling)
        try:
            tokenizer = read_config(resolve(settings.weights) / "tokenizer" / "tokenizer_config.json")
        except NotFetched:
            return
        refuse_tokens(settings, tokenizer.get("model_max_length", 77))

    @staticmethod
    def compression(vae: Config, denoiser: Config) -> Compression:
        space = 2 ** (len(vae.get("block_out_channels", (128, 256, 512, 512))) - 1)
        return Compression(1, space, patch=1, step=1)

    def load_pipeline(self, folder: Path, **components: Any) -> Any:
        from videodpo.models.shared.unet3d import UNet3DConditionModel

        if "unet" not in components:
            options = {"dtype": self.weights_dtype, "use_safetensors": True, "local_files_only": True}
            components["unet"] = UNet3DConditionModel.from_pretrained(folder / "unet", **options)
        return super().load_pipeline(folder, **components)

    @classmethod
    def make_schedule(cls, folder: Path) -> NoiseSchedule:
        from videodpo.models.shared.noise_schedules import Diffusion

        scheduler = load_scheduler(folder)
        return Diffusion(scheduler.alphas_cumprod, scheduler.config.prediction_type)

    def encode_texts(self, prompt: str) -> Sequence[torch.Tensor]:
        text_1LD, _ = self.pipe.encode_prompt([prompt], self.device, 1, do_classifier_free_guidance=False)
        return [text_1LD]

    def call_options(self, sampling: Sampling) -> dict[str, Any]:
        return {"guidance_scale": sampling.guidance_scale}

    def to_pipeline(self, latents_BCFHW: torch.Tensor) -> torch.Tensor:
        return latents_BCFHW.to(self.dtype)

    def predict(self, noisy_BCFHW: torch.Tensor, noise_level_B: torch.Tensor, text: PromptEmbeds) -> torch.Tensor:
        import torch

        conditions = {
            name: torch.full((len(noise_level_B),), value, device=self.device)
            for name, value in self.conditions().items()
        }
        prediction: torch.Tensor = self.denoiser(
            noisy_BCFHW.to(self.dtype),
            self.noise_schedule.timestep(noise_level_B.to(self.device)),
            encoder_hidden_states=text["prompt_embeds"].to(self.dtype),
            return_dict=False,
            **conditions,
        )[0]
        return prediction

    def conditions(self) -> dict[str, float]:
        """Conditioning of the denoiser in addition to time and text, as named numbers."""
        return {}

    def decode_raw(self, raw_BCFHW: torch.Tensor) -> torch.Tensor:
        pictures = raw_BCFHW.transpose(1, 2).flatten(0, 1)
        pixels: torch.Tensor = self.pipe.vae.decode(pictures, return_dict=False)[0]
        return pixels.view(len(raw_BCFHW), -1, *pixels.shape[1:]).transpose(1, 2)

    def encode_raw(self, pixels_BCTYX: torch.Tensor) -> torch.Tensor:
        pictures = pixels_BCTYX.transpose(1, 2).flatten(0, 1)
        raw: torch.Tensor = self.pipe.vae.encode(pictures).latent_dist.mode()
        return raw.view(len(pixels_BCTYX), -1, *raw.shape[1:]).transpose(1, 2)

    def load_lora(self, name: str, folder: Path) -> None:
        self.pipe.unet.load_lora_adapter(folder, weight_name=lora_file(name), prefix="unet")


def refuse_tokens(settings: Model, num_tokens: int) -> None:
    """Raise InputError if `max_sequence_length` is not the fixed number of tokens of the text tower."""
    if settings.max_sequence_length != num_tokens:
        raise InputError(
            f"model.max_sequence_length: {settings.max_sequence_length}; {settings.family} takes {num_tokens}"
        )
