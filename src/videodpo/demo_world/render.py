"""Draw a scene of the demo world as a clip, either clean or with a defect of real footage.

Legend: T frames, H height, W width.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from videodpo.demo_world.captions import Scene

NUM_FRAMES = 9
SIZE = 32  # pixels, height and width
FPS = 8.0
DEFECTS = ("flicker", "shake", "haze", "freeze")

_RGB = {
    "red": (220, 40, 40),
    "green": (50, 190, 60),
    "blue": (50, 80, 230),
    "yellow": (240, 215, 50),
    "purple": (170, 60, 200),
    "white": (245, 245, 245),
    "black": (18, 18, 18),
    "gray": (120, 120, 120),
    "brown": (110, 70, 35),
    "teal": (20, 110, 115),
}


@dataclass(frozen=True)
class _Path:
    """Centre x, y and radius, in pixels, at the first and the last frame."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]


def render(scene: Scene, rng: random.Random, *, defect: str | None = None) -> np.ndarray:
    """Draw one clip.

    Args:
        scene: what to show.
        rng: draws positions, sizes and the course of the defect.
        defect: one of DEFECTS, or None for clean footage.

    Returns:
        uint8 [T, H, W, 3], RGB.
    """
    time_T = np.linspace(0.0, 1.0, NUM_FRAMES)
    if defect == "freeze":
        time_T = np.full(NUM_FRAMES, rng.random())
    jitter = np.zeros((NUM_FRAMES, 2))
    if defect == "shake":
        jitter = np.array([[rng.uniform(-2.2, 2.2), rng.uniform(-2.2, 2.2)] for _ in range(NUM_FRAMES)])

    mover, other = _layout(scene, rng)
    ramp = np.linspace(1.15, 0.75, SIZE).reshape(1, SIZE, 1, 1)
    canvas = np.broadcast_to(ramp * np.array(_RGB[scene.background], float), (NUM_FRAMES, SIZE, SIZE, 3)).copy()
    if other is not None:
        assert scene.other_shape is not None
        assert scene.other_color is not None
        _paint(canvas, scene.other_shape, scene.other_color, other, time_T, jitter)
    _paint(canvas, scene.shape, scene.color, mover, time_T, jitter)

    if defect == "flicker":
        swing = rng.uniform(0.12, 0.3) * (1 if rng.random() < 0.5 else -1)
        gains = np.array([1 + swing * (-1) ** t * rng.uniform(0.6, 1.0) for t in range(NUM_FRAMES)])
        canvas *= gains.reshape(-1, 1, 1, 1)
    elif defect == "haze":
        canvas = _blur(canvas)
        fog = rng.uniform(90, 150)
        canvas = fog + rng.uniform(0.35, 0.55) * (canvas - fog)
    frames: np.ndarray = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return frames


def _layout(scene: Scene, rng: random.Random) -> tuple[_Path, _Path | None]:
    crowded = scene.other_shape is not None
    radius = rng.uniform(4.2, 5.2) if crowded else rng.uniform(5.0, 6.6)
    vertical = scene.motion in ("up", "down")
    lane, other_lane = (rng.uniform(9, 10), rng.uniform(22, 23)) if crowded else (rng.uniform(11, 21), 0.0)
    if crowded and rng.random() < 0.5:
        lane, other_lane = other_lane, lane
    if scene.motion in ("grows", "shrinks"):
        along = rng.uniform(12, 20)
        small, large = radius * 0.55, radius * 1.45
        ends = (small, large) if scene.motion == "grows" else (large, small)
        mover = _Path((along, lane, ends[0]), (along, lane, ends[1]))
    else:
        low, high = rng.uniform(7, 10), rng.uniform(22, 25)
        first, last = (high, low) if scene.motion in ("left", "up") else (low, high)
        ends_xy = ((lane, first), (lane, last)) if vertical else ((first, lane), (last, lane))
        mover = _Path((*ends_xy[0], radius), (*ends_xy[1], radius))
    if not crowded:
        return mover, None
    along = rng.uniform(9, 23)
    still = (other_lane, along, radius) if vertical else (along, other_lane, radius)
    return mover, _Path(still, still)


def _paint(canvas: np.ndarray, shape: str, color: str, path: _Path, time_T: np.ndarray, jitter: np.ndarray) -> None:
    start, end = np.array(path.start), np.array(path.end)
    course = start + (end - start) * time_T[:, None]  # [T, 3]
    grid = np.arange(SIZE) + 0.5
    dx = grid.reshape(1, 1, SIZE) - (course[:, 0] + jitter[:, 0]).reshape(-1, 1, 1)
    dy = grid.reshape(1, SIZE, 1) - (course[:, 1] + jitter[:, 1]).reshape(-1, 1, 1)
    distance = _signed_distance(shape, dx, dy, course[:, 2].reshape(-1, 1, 1))
    alpha = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
    canvas += alpha * (np.array(_RGB[color], float) - canvas)


def _signed_distance(shape: str, dx: np.ndarray, dy: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Signed distance to the outline in pixels, negative inside, [T, H, W]."""
    distance: np.ndarray
    if shape == "circle":
        distance = np.hypot(dx, dy) - r
    elif shape == "ring":
        distance = np.abs(np.hypot(dx, dy) - r * 0.78) - r * 0.27
    elif shape == "square":
        distance = np.maximum(np.abs(dx), np.abs(dy)) - r * 0.88
    elif shape == "cross":
        arm = np.maximum(np.abs(dx) - r, np.abs(dy) - r * 0.34)
        distance = np.minimum(arm, np.maximum(np.abs(dx) - r * 0.34, np.abs(dy) - r))
    else:
        assert shape == "triangle", shape
        distance = np.maximum(dy - r * 0.75, np.abs(dx) * 0.894 - (dy + r) * 0.447)
    return distance


def _blur(canvas: np.ndarray) -> np.ndarray:
    """Separable 5-tap binomial blur over height and width, edges repeated."""
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (2, 2)
        wide = np.pad(canvas, pad, mode="edge")
        taps = [np.take(wide, range(k, k + SIZE), axis=axis) for k in range(5)]
        canvas = (taps[0] + 4 * taps[1] + 6 * taps[2] + 4 * taps[3] + taps[4]) / 16
    return canvas
