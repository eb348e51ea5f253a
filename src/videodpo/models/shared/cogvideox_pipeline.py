"""CogVideoX's pipeline with guidance that grows over the steps, and the schedulers that its authors sample with."""

from __future__ import annotations

import math
from typing import Any

from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXPipeline

EXPONENT = 5.0
SCHEDULERS = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}


class GrowingGuidancePipeline(CogVideoXPipeline):  # type: ignore[misc]
    """Its own `use_dynamic_cfg` has the timestep where the formula has the step, so that guidance jumps."""

    @property
    def guidance_scale(self) -> float:
        """Guidance of the current step."""
        step = int((self.scheduler.timesteps == self.current_timestep).nonzero())
        return growing_guidance(super().guidance_scale, step, self.num_timesteps)


def growing_guidance(guidance_scale: float, step: int, num_steps: int) -> float:
    """From 1 to nearly 1 + guidance_scale: the formula of `DynamicCFG` in CogVideo's sat/sgm, with its exponent.

    Args:
        step: 0 is the first, at the highest noise level.
    """
    return 1 + guidance_scale * (1 - math.cos(math.pi * (step / num_steps) ** EXPONENT)) / 2


def scheduler_of(name: str, own: Any) -> Any:
    """The named scheduler with the noise of the folder's, from pure noise down, as the authors call it."""
    return SCHEDULERS[name].from_config(own.config, timestep_spacing="trailing")
