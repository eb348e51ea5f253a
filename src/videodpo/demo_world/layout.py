"""Positions, sizes and paths of the objects of a demo scene: its continuous parameters.

Legend: T frames.
"""

from __future__ import annotations

import random
from typing import NamedTuple

import numpy as np

from videodpo.demo_world.captions import Scene

# Ranges of a layout's parameters in pixels; "low" and "high" are the two ends of the mover's path.
_RADIUS, _CROWDED_RADIUS = (5.0, 6.6), (4.2, 5.2)
_LANE, _LOW_LANE, _HIGH_LANE = (11.0, 21.0), (9.0, 10.0), (22.0, 23.0)
_LOW, _HIGH, _ON_THE_SPOT, _OTHER_ALONG = (7.0, 10.0), (22.0, 25.0), (12.0, 20.0), (9.0, 23.0)


class Layout(NamedTuple):
    """Positions and sizes of the objects, in pixels.

    The mover stays in a lane: a column of the frame if it moves up or down, otherwise a row. The second object stands
    still in its own lane, and has the same radius. Parameters that a scene does not use are 0.
    """

    radius: float
    lane: float
    first: float
    """The mover's position along its lane in the first frame."""
    last: float
    """The mover's position along its lane in the last frame; 0 if it grows or shrinks, because it stays in place."""
    other_lane: float
    other_along: float


def draw_layout(scene: Scene, rng: random.Random) -> Layout:
    """Draw the continuous parameters of a scene, uniformly within the world's ranges."""
    crowded = scene.other_shape is not None
    radius = rng.uniform(*(_CROWDED_RADIUS if crowded else _RADIUS))
    lane, other_lane = (rng.uniform(*_LOW_LANE), rng.uniform(*_HIGH_LANE)) if crowded else (rng.uniform(*_LANE), 0.0)
    if crowded and rng.random() < 0.5:
        lane, other_lane = other_lane, lane
    if scene.motion in ("grows", "shrinks"):
        first, last = rng.uniform(*_ON_THE_SPOT), 0.0
    else:
        first, last = rng.uniform(*_LOW), rng.uniform(*_HIGH)
        if scene.motion in ("left", "up"):
            first, last = last, first
    return Layout(radius, lane, first, last, other_lane, rng.uniform(*_OTHER_ALONG) if crowded else 0.0)


def layout_range(scene: Scene, *, high_lane: bool = False) -> tuple[Layout, Layout]:
    """Return the smallest and the largest value of each parameter of the scene's layouts.

    Args:
        scene: the scene.
        high_lane: in a scene of two objects, the mover has the lane with the larger coordinate.
    """
    first, last = {
        "right": (_LOW, _HIGH),
        "down": (_LOW, _HIGH),
        "left": (_HIGH, _LOW),
        "up": (_HIGH, _LOW),
        "grows": (_ON_THE_SPOT, (0.0, 0.0)),
        "shrinks": (_ON_THE_SPOT, (0.0, 0.0)),
    }[scene.motion]
    if scene.other_shape is None:
        ranges = (_RADIUS, _LANE, first, last, (0.0, 0.0), (0.0, 0.0))
    else:
        lanes = (_HIGH_LANE, _LOW_LANE) if high_lane else (_LOW_LANE, _HIGH_LANE)
        ranges = (_CROWDED_RADIUS, lanes[0], first, last, lanes[1], _OTHER_ALONG)
    return Layout(*(low for low, _ in ranges)), Layout(*(high for _, high in ranges))


def courses(scene: Scene, layout: Layout, time_T: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the courses of the mover and of the other object: centre x, y and radius in every frame, [T, 3] each.

    Both are linear in the layout.

    Args:
        scene: scene to draw.
        layout: positions and sizes.
        time_T: progress of the mover along its path in each frame, 0 (start) to 1 (end).
    """
    radius, lane, first, last, other_lane, other_along = layout
    start, end = (first, lane, radius), (last, lane, radius)
    other = (other_along, other_lane, radius)
    if scene.motion in ("up", "down"):
        start, end, other = (lane, first, radius), (lane, last, radius), (other_lane, other_along, radius)
    elif scene.motion in ("grows", "shrinks"):
        small, large = (first, lane, radius * 0.55), (first, lane, radius * 1.45)
        start, end = (small, large) if scene.motion == "grows" else (large, small)
    return _course(start, end, time_T), _course(other, other, time_T)


def _course(start: tuple[float, ...], end: tuple[float, ...], time_T: np.ndarray) -> np.ndarray:
    course: np.ndarray = np.array(start) + (np.array(end) - np.array(start)) * time_T[:, None]
    return course
