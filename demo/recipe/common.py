"""Captioned clips of the demo world as training batches, and parts shared by the training loops."""

from __future__ import annotations

import logging
import math
import random
from pathlib import Path

import numpy as np
import torch

from videodpo.demo_world.captions import BACKGROUNDS, COLORS, MOTIONS, SHAPES, Scene, random_scene
from videodpo.demo_world.render import DEFECTS, render

WEIGHTS = Path(__file__).resolve().parents[1]  # demo/
SEED = 20260101

log = logging.getLogger("recipe")


def draw_scene(rng: random.Random, *, seen_only: bool = True, two_object_share: float = 0.3) -> Scene:
    """A random scene; by default one of those that models may be trained on."""
    while True:
        scene = random_scene(rng, two_object_share=two_object_share)
        if not (seen_only and scene.unseen):
            return scene


def draw_clip(rng: random.Random, *, defect_share: float, scene: Scene | None = None) -> tuple[np.ndarray, Scene]:
    """One uint8 [T, H, W, 3] clip with its scene; with probability `defect_share` it has a defect."""
    scene = scene or draw_scene(rng)
    defect = rng.choice(DEFECTS) if rng.random() < defect_share else None
    return render(scene, rng, defect=defect), scene


def misdescribe(scene: Scene, rng: random.Random) -> Scene:
    """Change one attribute of the scene: its caption then has one wrong word, as captions from the web do."""
    from dataclasses import replace

    field, values = rng.choice([("shape", SHAPES), ("color", COLORS), ("motion", MOTIONS), ("background", BACKGROUNDS)])
    wrong = [value for value in values if value != getattr(scene, field)]
    return replace(scene, **{field: rng.choice(wrong)})


def to_tensor(clips: list[np.ndarray]) -> torch.Tensor:
    """Convert uint8 clips [T, H, W, 3] to float32 [B, 3, T, H, W] in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(clips)).permute(0, 4, 1, 2, 3)
    return stacked.float().div_(127.5).sub_(1.0)


def learning_rate(step: int, num_steps: int, peak: float, warmup: int = 100) -> float:
    """Linear warm-up, then cosine decay to 2 % of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, num_steps - warmup)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


class Average:
    """Exponential moving average of a module's parameters (decay grows with the step)."""

    def __init__(self, module: torch.nn.Module, decay: float = 0.998) -> None:
        self.module, self.decay, self.step = module, decay, 0
        self.shadow = {name: p.detach().clone() for name, p in module.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        for name, value in self.module.state_dict().items():
            if value.dtype.is_floating_point:
                self.shadow[name].lerp_(value, 1 - decay)
            else:
                self.shadow[name].copy_(value)

    def apply(self) -> None:
        """Copy the averaged values to the module."""
        self.module.load_state_dict(self.shadow)
