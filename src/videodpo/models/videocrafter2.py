"""VideoCrafter2, the paper's main model: discrete diffusion with scaled-down latents, noise target.

Legend: see `videodpo.models.base`. Weights: `model.ckpt`, as published by the authors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from videodpo.config import Model, Sampling, Section
from videodpo.config.errors import InputError
from videodpo.config.section import Real
from videodpo.models.shared.pipeline_model import Compression, Config
from videodpo.models.text_to_video_sd import TextToVideoSdModel, refuse_tokens
from videodpo.weights.contents import refuse_fault
from videodpo.weights.locations import NotFetched, resolve

if TYPE_CHECKING:
    import torch

    from videodpo.models.shared.noise_schedules import NoiseSchedule

NUM_TOKENS = 77
# The U-Net halves the sides of the latents three times.
COMPRESSION = Compression(time=1, space=8, patch=8, step=1)


class VideoCrafter2Model(TextToVideoSdModel):
    """U-Net, VAE and text tower of `model.ckpt`, in the package's own `VideoCrafterPipeline`."""

    version = "1"
    index = "model.ckpt"
    hub_files: ClassVar[tuple[str, ...]] = ("model.ckpt",)

    class Options(Section):
        """Options of the pipeline call."""

        fps: Real = Field(28.0, gt=0)
        """Frames per second that the denoiser is conditioned on, in sampling and training."""
        eta: Real = Field(1.0, ge=0, le=1)
        """Share of fresh noise at each step; 0 is deterministic DDIM."""

    @classmethod
    def check(cls, settings: Model, sampling: Sampling) -> None:
        refuse_tokens(settings, NUM_TOKENS)
        COMPRESSION.refuse(sampling.num_frames, sampling.height, sampling.width, "generate.sampling")
        try:
            folder = resolve(settings.weights)
        except NotFetched:
            return
        if lacking := [name for name in cls.hub_files if not (folder / name).is_file()]:
            raise InputError(f"model.weights: {settings.weights} has no {lacking[0]}")
        for name in cls.hub_files:
            refuse_fault(folder / name, "model.weights")

    @staticmethod
    def compression(vae: Config, denoiser: Config) -> Compression:
        return COMPRESSION

    @classmethod
    def make_schedule(cls, folder: Path) -> NoiseSchedule:
        from videodpo.models.shared.noise_schedules import Diffusion
        from videodpo.models.shared.videocrafter_pipeline import VideoCrafterScheduler

        scheduler = VideoCrafterScheduler()
        return Diffusion(scheduler.alphas_cumprod, "epsilon", scheduler.signal_scale)

    @classmethod
    def sampler_timesteps(cls, settings: Model, sampling: Sampling) -> Sequence[float]:
        from videodpo.models.shared.videocrafter_pipeline import VideoCrafterScheduler

        scheduler = VideoCrafterScheduler()
        scheduler.set_timesteps(sampling.num_steps)
        timesteps: list[float] = scheduler.timesteps.tolist()
        return timesteps

    def load_pipeline(self, folder: Path, **components: Any) -> Any:
        from videodpo.models.shared.videocrafter_pipeline import VideoCrafterPipeline

        return VideoCrafterPipeline.from_original(folder / self.index, self.dtype, self.weights_dtype)

    def component_names(self, folder: Path) -> list[str]:
        return ["text_encoder", "tokenizer", "vae", "unet"]  # one file: all are read, some are then dropped

    def load_vae(self, folder: Path) -> Any:
        return self.load_pipeline(folder).vae

    def encode_texts(self, prompt: str) -> Sequence[torch.Tensor]:
        return [self.pipe.encode_prompt([prompt])]

    def call_options(self, sampling: Sampling) -> dict[str, Any]:
        return {**super().call_options(sampling), **self.conditions(), "eta": self._options.eta}

    def conditions(self) -> dict[str, float]:
        return {"fps": self._options.fps}
