"""VideoCrafter2, the paper's main model: discrete diffusion with smaller latents, the target is the noise.

Legend: see `videodpo.models.base`. Weights: `model.ckpt`, as its authors publish it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from videodpo.config import Model, Sampling, Section
from videodpo.models.base import Text
from videodpo.models.shared.pipeline_model import Compression
from videodpo.models.text_to_video_sd import TextToVideoSdModel
from videodpo.sections import Real
from videodpo.weights.places import NotFetched, resolve

if TYPE_CHECKING:
    import torch

    from videodpo.models.shared.noise_schedules import NoiseSchedule

COMPRESSION = Compression(time=1, space=8, patch=8, step=1)


class VideoCrafter2Model(TextToVideoSdModel):
    """The U-Net, VAE and text tower of the file, in a pipeline of ours."""

    version = "1"
    index = "model.ckpt"
    hub_files: ClassVar[tuple[str, ...]] = ("model.ckpt",)

    class Options(Section):
        """How the pipeline is called."""

        fps: Real = Field(28.0, gt=0)
        """Frames a second that the denoiser is told, in sampling and training alike."""
        eta: Real = Field(1.0, ge=0, le=1)
        """Share of fresh noise in every step; 0 is deterministic DDIM."""

    @classmethod
    def check(cls, settings: Model, sampling: Sampling) -> None:
        try:
            resolve(settings.weights)
        except NotFetched:
            return
        COMPRESSION.refuse(sampling.num_frames, sampling.height, sampling.width, "generate.sampling")

    def make_schedule(self) -> NoiseSchedule:
        from videodpo.models.shared.noise_schedules import Diffusion

        scheduler = self.pipe.scheduler
        return Diffusion(scheduler.alphas_cumprod, "epsilon", scheduler.signal_scale)

    def load_pipeline(self, folder: Path, **components: Any) -> Any:
        from videodpo.models.shared.videocrafter_pipeline import VideoCrafterPipeline

        return VideoCrafterPipeline.from_original(folder / self.index, self.dtype)

    def encode_texts(self, prompt: str) -> Sequence[torch.Tensor]:
        return [self.pipe.encode_prompt([prompt])]

    def call_options(self, sampling: Sampling) -> dict[str, Any]:
        return {**super().call_options(sampling), **self.told(), "eta": self._options.eta}

    def told(self) -> dict[str, float]:
        """What the denoiser is told beside time and text."""
        return {"fps": self._options.fps}

    def predict(self, noisy_BCFHW: torch.Tensor, level_B: torch.Tensor, text: Text) -> torch.Tensor:
        import torch

        told = {name: torch.full((len(level_B),), value, device=self.device) for name, value in self.told().items()}
        prediction: torch.Tensor = self.denoiser(
            noisy_BCFHW.to(self.dtype),
            self.noise_schedule.timestep(level_B.to(self.device)),
            encoder_hidden_states=text["prompt_embeds"].to(self.dtype),
            return_dict=False,
            **told,
        )[0]
        return prediction
