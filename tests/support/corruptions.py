"""Clips of the demo world with a defect of known strength, after encoding to MP4 and decoding.

Legend: T frames.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.layout import draw_layout
from videodpo.demo_world.render import FPS, NUM_FRAMES, RAMP_H, RGB, blur, draw, to_frames
from videodpo.storage.video import read_mp4, write_mp4

CORRUPTIONS = ("flicker", "shake", "haze", "freeze", "blur", "noise", "fading")
_TIME_T = np.linspace(0.0, 1.0, NUM_FRAMES)


def corrupted(seed: int, kind: str, strength: float) -> np.ndarray:
    """Draw the scene and layout of a seed with a defect.

    Args:
        seed: determines everything but the kind and strength of the defect.
        kind: one of CORRUPTIONS. "freeze" slows the motion down to nothing, "fading" removes the objects.
        strength: 0 (clean) to 1.

    Returns:
        uint8 [T, H, W, 3].
    """
    rng = random.Random(seed)
    scene = random_scene(rng)
    layout = draw_layout(scene, rng)
    signs_T = np.array([(-1) ** t * rng.uniform(0.6, 1.0) for t in range(NUM_FRAMES)])
    offsets = np.array([[rng.uniform(-4, 4), rng.uniform(-4, 4)] for _ in range(NUM_FRAMES)])
    stop, fog = rng.random(), rng.uniform(90, 150)
    time_T = stop + (_TIME_T - stop) * (1 - strength) if kind == "freeze" else _TIME_T
    canvas = draw(scene, layout, time_T, offsets * strength * (kind == "shake"))
    if kind == "flicker":
        canvas *= (1 + 0.4 * strength * signs_T).reshape(-1, 1, 1, 1)
    elif kind == "haze":
        canvas += strength * (fog + 0.3 * (blur(canvas) - fog) - canvas)
    elif kind == "blur":
        for _ in range(round(8 * strength)):
            canvas = blur(canvas)
    elif kind == "noise":
        canvas += np.random.default_rng(seed).normal(0, 60 * strength, canvas.shape)
    elif kind == "fading":
        canvas += strength * (RAMP_H.reshape(-1, 1, 1) * np.array(RGB[scene.background]) - canvas)
    return to_frames(canvas)


def through_mp4(frames: np.ndarray, folder: Path) -> np.ndarray:
    """Encode and decode a clip as the demo does."""
    write_mp4(folder / "clip.mp4", frames, FPS, crf=8)
    return read_mp4(folder / "clip.mp4")[0]
