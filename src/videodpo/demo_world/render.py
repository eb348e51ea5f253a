"""Render scenes of the demo world as clips, either clean or with a defect of real footage.

Legend: T frames, H height, W width; `...` any leading axes.
"""

from __future__ import annotations

import random

import numpy as np

from videodpo.demo_world.captions import Scene
from videodpo.demo_world.layout import Layout, courses, draw_layout

NUM_FRAMES = 9
SIZE = 32  # pixels, height and width
FPS = 8.0
DEFECTS = ("flicker", "shake", "haze", "freeze")

RGB = {
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
RAMP_H = np.linspace(1.15, 0.75, SIZE)  # the background's brightness, from top to bottom


def render(scene: Scene, rng: random.Random, *, defect: str | None = None) -> np.ndarray:
    """Render one clip.

    Args:
        scene: scene to draw.
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

    canvas = draw(scene, draw_layout(scene, rng), time_T, jitter)

    if defect == "flicker":
        swing = rng.uniform(0.12, 0.3) * (1 if rng.random() < 0.5 else -1)
        gains = np.array([1 + swing * (-1) ** t * rng.uniform(0.6, 1.0) for t in range(NUM_FRAMES)])
        canvas *= gains.reshape(-1, 1, 1, 1)
    elif defect == "haze":
        canvas = blur(canvas)
        fog = rng.uniform(90, 150)
        canvas = fog + rng.uniform(0.35, 0.55) * (canvas - fog)
    return to_frames(canvas)


def draw(scene: Scene, layout: Layout, time_T: np.ndarray, jitter: np.ndarray) -> np.ndarray:
    """Draw a scene with its objects at given positions.

    Args:
        scene: scene to draw.
        layout: positions and sizes.
        time_T: progress of the mover along its path in each frame, 0 (start) to 1 (end).
        jitter: offset of the objects in every frame, x and y in pixels, [T, 2].

    Returns:
        float [T, H, W, 3], RGB, 0 to 255.
    """
    canvas = np.broadcast_to(
        RAMP_H.reshape(1, SIZE, 1, 1) * np.array(RGB[scene.background], float), (len(time_T), SIZE, SIZE, 3)
    ).copy()
    mover, other = courses(scene, layout, time_T)
    if scene.other_shape is not None:
        assert scene.other_color is not None
        _paint(canvas, scene.other_shape, scene.other_color, other, jitter)
    _paint(canvas, scene.shape, scene.color, mover, jitter)
    return canvas


def to_frames(canvas: np.ndarray) -> np.ndarray:
    """Round a drawing to uint8."""
    frames: np.ndarray = np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
    return frames


def coverage(shape: str, course: np.ndarray) -> np.ndarray:
    """Return the share of each pixel that a shape covers, [..., H, W], from its centre x, y and radius, [..., 3]."""
    grid = (np.arange(SIZE) + 0.5).astype(course.dtype)
    x, y, radius = (course[..., i, None, None] for i in range(3))
    distance = _signed_distance(shape, grid - x, grid[:, None] - y, radius)
    share: np.ndarray = np.clip(0.5 - distance, 0.0, 1.0)
    return share


def _paint(canvas: np.ndarray, shape: str, color: str, course: np.ndarray, jitter: np.ndarray) -> None:
    placed = course + np.pad(jitter, ((0, 0), (0, 1)))
    canvas += coverage(shape, placed)[..., None] * (np.array(RGB[color], float) - canvas)


def _signed_distance(shape: str, dx: np.ndarray, dy: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Signed distance to the outline in pixels, negative inside, [..., H, W]."""
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


def blur(canvas: np.ndarray) -> np.ndarray:
    """Separable 5-tap binomial blur over height and width, edges repeated."""
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (2, 2)
        wide = np.pad(canvas, pad, mode="edge")
        taps = [np.take(wide, range(k, k + SIZE), axis=axis) for k in range(5)]
        canvas = (taps[0] + 4 * taps[1] + 6 * taps[2] + 4 * taps[3] + taps[4]) / 16
    return canvas
