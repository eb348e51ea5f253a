"""What a text-to-video model is to the pipeline: sample, decode, encode, predict, adapt.

Legend: B batch, C latent channel, F latent frame, H latent height, W latent width; T frame, Y, X pixels;
L text token. Model modules import torch and diffusers inside functions, not at the top.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from videodpo.config import Lora, Model, Sampling, Section
from videodpo.config.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch

    from videodpo.models.shared.noise_schedules import NoiseSchedule

PromptEmbeds: TypeAlias = "Mapping[str, torch.Tensor]"
"""What the denoiser is told of a prompt: tensors [L, ...] by name; of a batch of prompts, [B, L, ...]."""

Part: TypeAlias = Literal["text", "denoiser", "vae"]
ALL_PARTS: frozenset[Part] = frozenset({"text", "denoiser", "vae"})
"""What a model may be loaded with: text encoders with their tokenizers, the denoiser, the VAE."""


class VideoModel(ABC):
    """One model family; every tensor lies on `device`, latents are as the denoiser sees them (normalised).

    Attributes:
        version: raised whenever the same seed would give another clip.
        device: where its tensors lie.
        denoiser: the network that is aligned, in eval mode after loading.
        noise_schedule: how noise enters latents, and what the denoiser is trained to predict.
        index: the file that its folder must have.
        hub_files: patterns of the files that it reads of a `hub:` repository.
        takes_flow_shift: it samples with `generate.sampling.flow_shift`.
        leaves_weights_out: not every forward pass uses every weight, which data parallelism has to be told.
        parts_by_level: the noise level decides which weights a pass uses, so that processes differ in it.
    """

    version: ClassVar[str]
    index: ClassVar[str] = "model_index.json"
    hub_files: ClassVar[tuple[str, ...]] = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
    takes_flow_shift: ClassVar[bool] = False
    device: torch.device
    denoiser: Any  # a torch.nn.Module with what diffusers and peft add to it
    noise_schedule: NoiseSchedule
    leaves_weights_out: bool = False
    parts_by_noise_level: bool = False

    class Options(Section):
        """The family's own keys, below `model.options`."""

    @classmethod
    @abstractmethod
    def check(cls, settings: Model, sampling: Sampling) -> None:
        """What can be known before a job starts: the family's files are there, and it can sample this size.

        Raises:
            ValueError: the message names the key.
        """

    @classmethod
    @abstractmethod
    def make_schedule(cls, folder: Path) -> NoiseSchedule:
        """Build the noise schedule from the configs in the model's folder; no weights are loaded."""

    @classmethod
    def sampler_timesteps(cls, settings: Model, sampling: Sampling) -> Sequence[float]:
        """Timesteps of the calls of the denoiser in one `sample`, in order, from the configs in the model's folder.

        Only `schedule.timesteps.distribution: match_sampler` needs them.

        Raises:
            InputError: the family does not say.
        """
        raise InputError(
            f"schedule.timesteps.distribution: match_sampler; the family {settings.family} does not say at which "
            "timesteps it samples; use uniform or logit_normal"
        )

    @abstractmethod
    def __init__(self, settings: Model, device: str, *, parts: Set[Part] = ALL_PARTS) -> None:
        """Load the pipeline from `settings.weights`.

        Args:
            parts: what to load. Without the text encoders it cannot `encode_prompt`, without the VAE not `decode` or
                `encode`; with the denoiser alone it can `predict`, adapt and save.
        """

    @abstractmethod
    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        """One prompt, encoded alone so that no batch mate changes its bits."""

    @abstractmethod
    def sample(
        self, text: PromptEmbeds, seeds: Sequence[int], sampling: Sampling, negative: PromptEmbeds | None = None
    ) -> torch.Tensor:
        """Denoise through the family's own pipeline: latents [B, C, F, H, W], float32.

        Args:
            text: of the batch. seeds: of its clips; all that is random in a clip follows from its own.
            negative: the encoded negative prompt, where there is no text encoder; else it is encoded here.
        """

    @abstractmethod
    def with_vae(self) -> AbstractContextManager[None]:
        """Inside, a model that was loaded without its VAE can decode."""

    @abstractmethod
    def decode(self, latents_BCFHW: torch.Tensor) -> list[np.ndarray | None]:
        """Frames of each clip, uint8 RGB [T, Y, X, 3]; None where the VAE gave NaN or infinite pixels."""

    @abstractmethod
    def encode(self, frames_TYXC: np.ndarray) -> torch.Tensor:
        """Latents [C, F, H, W], float32, of one clip of uint8 RGB frames.

        Raises:
            ValueError: a size or length that the VAE and the patches do not divide.
        """

    @abstractmethod
    def predict(self, noisy_BCFHW: torch.Tensor, noise_level_B: torch.Tensor, text: PromptEmbeds) -> torch.Tensor:
        """The denoiser's output at `level_B`, called exactly as the pipeline calls it, without guidance."""

    def precision(self) -> AbstractContextManager[Any]:
        """Inside, `predict` multiplies in the configured type, whatever type its weights have."""
        return nullcontext()

    @abstractmethod
    def add_lora(self, lora: Lora, seed: int) -> None:
        """Give the denoiser a fresh LoRA (a zero change), initialised from `seed`; only it is trainable.

        Raises:
            ValueError: it has no layer of a name in `lora.target_modules`.
        """

    @abstractmethod
    def resume_lora(self, folder: Path) -> None:
        """Put a saved LoRA's values into the trainable one that `add_lora` made."""

    @abstractmethod
    def keep_reference(self) -> None:
        """Keep a frozen copy of the denoiser as the reference: needed where every weight is trained."""

    @abstractmethod
    def enable_context_parallel(self, degree: int) -> None:
        """Share every clip's tokens between `degree` neighbouring processes; all of them call this.

        Raises:
            ValueError: the family's networks cannot.
        """

    @abstractmethod
    def reference_weights(self) -> AbstractContextManager[None]:
        """Inside, `predict` uses the base model's weights: adapters off, or a frozen copy swapped in."""

    @abstractmethod
    def save_adapter(self, folder: Path, weights: dict[str, torch.Tensor] | None = None) -> None:
        """Write the LoRA (or, after full fine-tuning, the denoiser) in diffusers' format.

        Args:
            weights: of the LoRA, by their names in the denoiser, if the model's own are sharded.
        """

    @abstractmethod
    def load_adapter(self, folder: Path) -> None:
        """Apply what `save_adapter` wrote."""


def collate(texts: Sequence[PromptEmbeds]) -> PromptEmbeds:
    """Of several prompts one batch."""
    import torch

    return {name: torch.stack([text[name] for text in texts]) for name in texts[0]}
