"""Noise schedules: how noise is added to latents, and the denoiser's training target.

Legend: B batch; latents [B, ...]. Noise levels are in (0, 1); 1 is pure noise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch

NUM_TRAIN_TIMESTEPS = 1000


class NoiseSchedule(ABC):
    """Forward process of a family, and its training target."""

    @abstractmethod
    def timestep(self, noise_level_B: torch.Tensor) -> torch.Tensor:
        """Convert noise levels to the family's own timesteps, as in its denoiser's input and in the tables; [B]."""

    @abstractmethod
    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, noise_level_B: torch.Tensor) -> torch.Tensor:
        """Return noisy latents [B, ...].

        Args:
            latents: clean latents [B, ...].
            noise: Gaussian noise [B, ...].
            noise_level_B: noise levels in (0, 1).
        """

    @abstractmethod
    def target(self, latents: torch.Tensor, noise: torch.Tensor, noise_level_B: torch.Tensor) -> torch.Tensor:
        """Return the denoiser's training target [B, ...]; arguments as in `add_noise`."""

    def noise_level(self, timestep: float) -> float:
        """Return the middle of all noise levels with this timestep. Assumes that it rises with the noise level."""

        def first(is_reached: Callable[[float], bool]) -> float:
            low, high = 0.0, 1.0
            for _ in range(48):
                middle = (low + high) / 2
                if is_reached(float(self.timestep(torch.tensor([middle], dtype=torch.float64)))):
                    high = middle
                else:
                    low = middle
            return high

        return (first(lambda found: found >= timestep) + first(lambda found: found > timestep)) / 2


class FlowMatching(NoiseSchedule):
    """Straight paths from latents to noise; the target is the velocity, noise - latents (arXiv 2210.02747)."""

    def timestep(self, noise_level_B: torch.Tensor) -> torch.Tensor:
        return noise_level_B * NUM_TRAIN_TIMESTEPS

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, noise_level_B: torch.Tensor) -> torch.Tensor:
        noise_level = _beside(noise_level_B, latents)
        return (1 - noise_level) * latents + noise_level * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, noise_level_B: torch.Tensor) -> torch.Tensor:
        return noise - latents


class Diffusion(NoiseSchedule):
    """Discrete timesteps with signal share `alphas_cumprod`; the target is the noise, or v (arXiv 2202.00512).

    Noise level q maps to entry floor(q n) of the n sorted `timesteps`; None means all timesteps. `signal_scale`, one
    value per timestep, is a factor on the latents, as in VideoCrafter2.
    """

    def __init__(
        self,
        alphas_cumprod: torch.Tensor,
        prediction: Literal["epsilon", "v_prediction"],
        signal_scale: torch.Tensor | None = None,
        timesteps: Sequence[int] | None = None,
    ) -> None:
        scale = torch.ones_like(alphas_cumprod) if signal_scale is None else signal_scale
        self._signal = (alphas_cumprod.sqrt() * scale).float()
        self._noise = (1 - alphas_cumprod).sqrt().float()
        self._prediction = prediction
        self._timesteps = torch.tensor(sorted(timesteps or range(len(alphas_cumprod))))

    def timestep(self, noise_level_B: torch.Tensor) -> torch.Tensor:
        places_B = (noise_level_B * len(self._timesteps)).long().clamp(0, len(self._timesteps) - 1)
        return self._timesteps.to(noise_level_B.device)[places_B]

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, noise_level_B: torch.Tensor) -> torch.Tensor:
        signal, share = self._shares(latents, noise_level_B)
        return signal * latents + share * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, noise_level_B: torch.Tensor) -> torch.Tensor:
        if self._prediction == "epsilon":
            return noise
        signal, share = self._shares(latents, noise_level_B)
        return signal * noise - share * latents

    def _shares(self, latents: torch.Tensor, noise_level_B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        timestep = self.timestep(noise_level_B).cpu()
        signal, share = (_beside(table[timestep].to(latents.device), latents) for table in (self._signal, self._noise))
        return signal, share


def _beside(values_B: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Reshape one value per sample so that it broadcasts over the latents."""
    return values_B.view(-1, *[1] * (latents.ndim - 1))
