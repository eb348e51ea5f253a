"""T2V-Turbo v1: VideoCrafter2 with a LoRA that samples in 4 to 8 steps; the target is the noise.

Legend: see `videodpo.models.base`. Weights: `model.ckpt` and `unet_lora.pt`, as their authors publish them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from videodpo.config import Model, Sampling, Section
from videodpo.config.errors import InputError
from videodpo.config.section import Real
from videodpo.models.videocrafter2 import VideoCrafter2Model

if TYPE_CHECKING:
    from videodpo.models.shared.noise_schedules import NoiseSchedule

LORA = "unet_lora.pt"
STEPS = range(1, 51)


class T2VTurboModel(VideoCrafter2Model):
    """Guidance is a number that the denoiser is told, so `guidance_scale` is 1. Trained at its 50 DDIM timesteps."""

    version = "1"
    hub_files = ("model.ckpt", LORA)

    class Options(Section):
        """How the pipeline is called, in sampling and training alike."""

        fps: Real = Field(16.0, gt=0)
        """Frames a second that the denoiser is told."""
        guidance: Real = Field(7.5, gt=0)
        """Guidance that the denoiser is told."""

    @classmethod
    def check(cls, settings: Model, sampling: Sampling) -> None:
        super().check(settings, sampling)
        if sampling.guidance_scale != 1:
            raise InputError(
                f"generate.sampling.guidance_scale: {sampling.guidance_scale:g}; t2v_turbo is told its guidance, "
                "model.options.guidance, and needs 1 here"
            )
        if sampling.num_steps not in STEPS:
            raise InputError(f"generate.sampling.num_steps: {sampling.num_steps}; t2v_turbo takes 1 to 50, best 4 to 8")

    @classmethod
    def make_schedule(cls, folder: Path) -> NoiseSchedule:
        from videodpo.models.shared.noise_schedules import Diffusion
        from videodpo.models.shared.t2v_turbo_pipeline import TRAINED_STEPS, consistency_timesteps, make_scheduler

        timesteps = consistency_timesteps(TRAINED_STEPS)
        return Diffusion(make_scheduler().alphas_cumprod, "epsilon", timesteps=timesteps)

    def load_pipeline(self, folder: Path, **components: Any) -> Any:
        from videodpo.models.shared.t2v_turbo_pipeline import T2VTurboPipeline

        files = folder / self.index, folder / LORA
        return T2VTurboPipeline.from_originals(*files, self.dtype, self.weights_dtype)

    def call_options(self, sampling: Sampling) -> dict[str, Any]:
        return self.conditions()

    def conditions(self) -> dict[str, float]:
        return {"fps": self._options.fps, "guidance": self._options.guidance}
