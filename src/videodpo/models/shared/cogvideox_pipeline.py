"""CogVideoX pipeline with guidance that grows over the steps, and the schedulers that its authors use."""

from __future__ import annotations

import math
from typing import Any

from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXPipeline

EXPONENT = 5.0
SCHEDULERS = {"ddim": CogVideoXDDIMScheduler, "dpm": CogVideoXDPMScheduler}


class GrowingGuidancePipeline(CogVideoXPipeline):  # type: ignore[misc]
    """Replaces diffusers' `use_dynamic_cfg`, which uses the timestep instead of the step and so makes guidance jump."""

    @property
    def guidance_scale(self) -> float:
        """Guidance of the current step."""
        step = int((self.scheduler.timesteps == self.current_timestep).nonzero())
        return growing_guidance(super().guidance_scale, step, self.num_timesteps)


def growing_guidance(guidance_scale: float, step: int, num_steps: int) -> float:
    """Guidance from 1 to nearly 1 + guidance_scale. Formula and exponent: `DynamicCFG` in CogVideo's sat/sgm.

    Args:
        step: number of the step; 0 has the highest noise level.
    """
    return 1 + guidance_scale * (1 - math.cos(math.pi * (step / num_steps) ** EXPONENT)) / 2


def scheduler_of(name: str, own: Any) -> Any:
    """Create the named scheduler with the noise schedule of `own`, starting at pure noise as the authors do."""
    return SCHEDULERS[name].from_config(own.config, timestep_spacing="trailing")
