"""Text-to-video models, one file per family."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING

from videodpo.models.base import ALL_PARTS, Part
from videodpo.runtime import registry
from videodpo.runtime.device import choose_device
from videodpo.weights.locations import resolve

if TYPE_CHECKING:
    from videodpo.config import Model, Sampling
    from videodpo.models.base import VideoModel
    from videodpo.models.shared.noise_schedules import NoiseSchedule


def load_model(settings: Model, device: str, *, parts: Set[Part] = ALL_PARTS) -> VideoModel:
    """Load the model of the configured family.

    Args:
        device: as configured: auto, cpu or cuda.
        parts: parts of the model to load.
    """
    if settings.dtype != "float32":
        import torch

        # Otherwise, float32 products of a LoRA would not use the GPU's tensor cores. Every stage loads models here, so
        # policy and reference multiply with the same precision.
        torch.backends.cuda.matmul.allow_tf32 = True
    family = registry.load("videodpo.models", settings.family)
    model: VideoModel = family(settings, choose_device(device), parts=parts)
    return model


def make_schedule(settings: Model) -> NoiseSchedule:
    """Build the noise schedule of the configured model without loading weights."""
    schedule: NoiseSchedule = registry.load("videodpo.models", settings.family).make_schedule(resolve(settings.weights))
    return schedule


def sampler_noise_levels(settings: Model, sampling: Sampling) -> list[float]:
    """Return the noise levels at which the configured sampler calls the denoiser, in order. Loads no weights."""
    schedule = make_schedule(settings)
    family = registry.load("videodpo.models", settings.family)
    return [schedule.noise_level(float(timestep)) for timestep in family.sampler_timesteps(settings, sampling)]
