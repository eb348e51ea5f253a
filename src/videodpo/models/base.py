"""Interface of a text-to-video model: sample, decode, encode, predict, adapt.

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
"""Prompt conditioning as named tensors, [L, ...] for one prompt, [B, L, ...] for a batch."""

Part: TypeAlias = Literal["text", "denoiser", "vae"]
ALL_PARTS: frozenset[Part] = frozenset({"text", "denoiser", "vae"})
"""Text encoders with their tokenizers, the denoiser, and the VAE; each can be loaded alone."""


class VideoModel(ABC):
    """One model family. All tensors are on `device`. Latents are normalised, as the denoiser sees them.

    Attributes:
        version: increased whenever the same seed would give a different clip.
        device: device of all tensors.
        denoiser: network that is fine-tuned; in eval mode after loading.
        noise_schedule: how noise is added to latents, and the denoiser's training target.
        index: file that must be in the model's folder.
        hub_files: patterns of the files that are read from a `hub:` repository.
        takes_flow_shift: True if sampling uses `generate.sampling.flow_shift`.
        leaves_weights_out: True if some forward passes do not use every weight, which data parallelism must handle.
        parts_by_noise_level: True if the noise level decides which weights a pass uses, so that ranks may differ.
    """

    version: ClassVar[str]
    index: ClassVar[str] = "model_index.json"
    hub_files: ClassVar[tuple[str, ...]] = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
    takes_flow_shift: ClassVar[bool] = False
    device: torch.device
    denoiser: Any  # a torch.nn.Module with the methods that diffusers and peft add
    noise_schedule: NoiseSchedule
    leaves_weights_out: bool = False
    parts_by_noise_level: bool = False

    class Options(Section):
        """Keys of the family under `model.options`."""

    @classmethod
    @abstractmethod
    def check(cls, settings: Model, sampling: Sampling) -> None:
        """Check what can be known before a job starts: the files exist, and the family can sample this size.

        Raises:
            ValueError: the message names the key.
        """

    @classmethod
    @abstractmethod
    def make_schedule(cls, folder: Path) -> NoiseSchedule:
        """Build the noise schedule from the configs in the model's folder, without loading weights."""

    @classmethod
    def sampler_timesteps(cls, settings: Model, sampling: Sampling) -> Sequence[float]:
        """Return the timesteps of the denoiser calls in one `sample`, in order, from the configs in the model's folder.

        Only `schedule.timesteps.distribution: match_sampler` needs this.

        Raises:
            InputError: the family does not support it.
        """
        raise InputError(
            f"schedule.timesteps.distribution: match_sampler; the family {settings.family} does not declare the "
            "timesteps of its sampler; use uniform or logit_normal"
        )

    @abstractmethod
    def __init__(self, settings: Model, device: str, *, parts: Set[Part] = ALL_PARTS) -> None:
        """Load the pipeline from `settings.weights`.

        Args:
            parts: parts to load. `encode_prompt` needs the text encoders; `decode` and `encode` need the VAE. The
                denoiser alone is enough to predict, adapt and save.
        """

    @abstractmethod
    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        """Encode one prompt, never a batch of them, so that the result does not depend on other prompts."""

    @abstractmethod
    def sample(
        self, text: PromptEmbeds, seeds: Sequence[int], sampling: Sampling, negative: PromptEmbeds | None = None
    ) -> torch.Tensor:
        """Denoise with the family's own pipeline; return latents [B, C, F, H, W], float32.

        Args:
            text: conditioning of the batch.
            seeds: one seed per clip. All randomness of a clip follows from its own seed.
            negative: conditioning of the negative prompt. None encodes it here, which needs the text encoder.
        """

    @abstractmethod
    def with_vae(self) -> AbstractContextManager[None]:
        """Inside the block, `decode` works even if the model was loaded without its VAE."""

    @abstractmethod
    def decode(self, latents_BCFHW: torch.Tensor) -> list[np.ndarray | None]:
        """Decode to frames of each clip, uint8 RGB [T, Y, X, 3]; None for a clip with NaN or infinite pixels."""

    @abstractmethod
    def encode(self, frames_TYXC: np.ndarray) -> torch.Tensor:
        """Encode one clip of uint8 RGB frames to latents [C, F, H, W], float32.

        Raises:
            ValueError: size or length is not divisible by the VAE's compression and the patch size.
        """

    @abstractmethod
    def predict(self, noisy_BCFHW: torch.Tensor, noise_level_B: torch.Tensor, text: PromptEmbeds) -> torch.Tensor:
        """Call the denoiser exactly as the pipeline does, without guidance, and return its output [B, C, F, H, W].

        Args:
            noisy_BCFHW: noisy latents.
            noise_level_B: noise levels in (0, 1).
            text: conditioning of the batch.
        """

    def precision(self) -> AbstractContextManager[Any]:
        """Inside the block, `predict` multiplies in the configured dtype, regardless of the dtype of the weights."""
        return nullcontext()

    @abstractmethod
    def add_lora(self, lora: Lora, seed: int) -> None:
        """Add a fresh LoRA (initially a zero change) to the denoiser, using `seed`. Only the LoRA is trainable.

        Raises:
            ValueError: no layer matches a name in `lora.target_modules`.
        """

    @abstractmethod
    def resume_lora(self, folder: Path) -> None:
        """Load a saved LoRA into the trainable one that `add_lora` added."""

    @abstractmethod
    def keep_reference(self) -> None:
        """Keep a frozen copy of the denoiser as the reference. Needed when every weight is trained."""

    @abstractmethod
    def enable_context_parallel(self, degree: int) -> None:
        """Split the tokens of every clip over `degree` neighbouring ranks. All of these ranks must call this.

        Raises:
            ValueError: the family's networks do not support it.
        """

    @abstractmethod
    def reference_weights(self) -> AbstractContextManager[None]:
        """Inside the block, `predict` uses the base model's weights: adapters off, or a frozen copy swapped in."""

    @abstractmethod
    def save_adapter(self, folder: Path, weights: dict[str, torch.Tensor] | None = None) -> None:
        """Save the LoRA (or, after full fine-tuning, the denoiser) in diffusers' format.

        Args:
            weights: LoRA weights by their names in the denoiser, if the model's own are sharded.
        """

    @abstractmethod
    def load_adapter(self, folder: Path) -> None:
        """Load what `save_adapter` wrote."""


def collate(texts: Sequence[PromptEmbeds]) -> PromptEmbeds:
    """Stack the conditioning of several prompts into one batch."""
    import torch

    return {name: torch.stack([text[name] for text in texts]) for name in texts[0]}
