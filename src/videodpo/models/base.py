"""What a text-to-video model is to the pipeline: sample, decode, encode, predict, adapt.

Legend: B batch, C latent channel, F latent frame, H latent height, W latent width; T frame, Y, X pixels;
L text token, D text channel. Model modules import torch and diffusers inside functions, not at the top.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from videodpo.config import Lora, Model, Sampling

if TYPE_CHECKING:
    import numpy as np
    import torch


class VideoModel(ABC):
    """One model family; every tensor lies on `device`, latents are as the denoiser sees them (normalised).

    Attributes:
        version: raised whenever the same seed would give another clip.
        device: where its tensors lie.
        denoiser: the network that is aligned, in eval mode after loading.
        hub_files: patterns of the files that it reads of a `hub:` repository.
    """

    version: ClassVar[str]
    hub_files: ClassVar[tuple[str, ...]] = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
    device: torch.device
    denoiser: Any  # a torch.nn.Module with what diffusers and peft add to it

    @classmethod
    @abstractmethod
    def check(cls, settings: Model, sampling: Sampling) -> None:
        """What can be known before a job starts: the family's files are there, and it can sample this size.

        Raises:
            ValueError: the message names the key.
        """

    @abstractmethod
    def __init__(self, settings: Model, device: str) -> None:
        """Load the pipeline from `settings.weights`."""

    @abstractmethod
    def encode_prompt(self, prompt: str) -> torch.Tensor:
        """Text embedding [L, D] of one prompt, encoded alone so that no batch mate changes its bits."""

    @abstractmethod
    def draw_noise(self, seed: int, sampling: Sampling) -> torch.Tensor:
        """Starting noise [C, F, H, W], float32, drawn on the CPU from the video's own seed."""

    @abstractmethod
    def sample(self, text_BLD: torch.Tensor, noise_BCFHW: torch.Tensor, sampling: Sampling) -> torch.Tensor:
        """Denoise with guidance through the family's own pipeline: latents [B, C, F, H, W], float32."""

    @abstractmethod
    def decode(self, latents_BCFHW: torch.Tensor) -> np.ndarray:
        """Frames, uint8 RGB [B, T, Y, X, 3]."""

    @abstractmethod
    def encode(self, frames_TYXC: np.ndarray) -> torch.Tensor:
        """Latents [C, F, H, W], float32, of one clip of uint8 RGB frames.

        Raises:
            ValueError: a size or length that the VAE and the patches do not divide.
        """

    @abstractmethod
    def add_noise(self, latents_BCFHW: torch.Tensor, noise_BCFHW: torch.Tensor, level_B: torch.Tensor) -> torch.Tensor:
        """Noisy latents at noise level `level_B` in (0, 1)."""

    @abstractmethod
    def target(self, latents_BCFHW: torch.Tensor, noise_BCFHW: torch.Tensor, level_B: torch.Tensor) -> torch.Tensor:
        """What the denoiser is trained to predict: noise, v, or velocity."""

    @abstractmethod
    def predict(self, noisy_BCFHW: torch.Tensor, level_B: torch.Tensor, text_BLD: torch.Tensor) -> torch.Tensor:
        """The denoiser's output at `level_B`, called exactly as the pipeline calls it, without guidance."""

    @abstractmethod
    def timestep(self, level: float) -> float:
        """The family's own timestep at a noise level, as the tables show it."""

    @abstractmethod
    def add_lora(self, lora: Lora, seed: int) -> None:
        """Give the denoiser a fresh LoRA (a zero change), initialised from `seed`; only it is trainable."""

    @abstractmethod
    def resume_lora(self, folder: Path) -> None:
        """Put a saved LoRA's values into the trainable one that `add_lora` made."""

    @abstractmethod
    def keep_reference(self) -> None:
        """Keep a frozen copy of the denoiser as the reference: needed where every weight is trained."""

    @abstractmethod
    def reference_weights(self) -> AbstractContextManager[None]:
        """Inside, `predict` uses the base model's weights: adapters off, or a frozen copy swapped in."""

    @abstractmethod
    def save_adapter(self, folder: Path) -> None:
        """Write the LoRA (or, after full fine-tuning, the denoiser) in diffusers' format."""

    @abstractmethod
    def load_adapter(self, folder: Path) -> None:
        """Apply what `save_adapter` wrote."""
