"""Compare a clip with all scenes of the demo world, on a coarse grid of layouts, and return the nearest ones.

The squared error of a rendered clip is the background's error plus one term per object. This term is linear in a few
moments, which are sums over pixels of the object's coverage times the clip. So one matrix product gives the errors of
all scenes. It is exact if objects do not overlap.

Legend: M coarse positions of an object, G groups of positions that differ only in the layout, T frames, H height,
W width; an axis of 3 is RGB, one of 6 the colors, one of 4 the backgrounds.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np

from videodpo.demo_world.captions import BACKGROUNDS, COLORS, MOTIONS, SHAPES, Scene
from videodpo.demo_world.layout import Layout, courses, layout_range
from videodpo.demo_world.render import NUM_FRAMES, RAMP_H, RGB, SIZE, coverage

FEW_FRAMES = slice(0, NUM_FRAMES, 4)  # first, middle and last

_SPACING = 2.5  # pixels between grid positions
_GRIDDED = {"alone": ("lane", "first"), "mover": ("lane", "first"), "other": ("other_along",)}
_KEYS = (("alone", False), ("mover", False), ("mover", True), ("other", False), ("other", True))
_ORIENTATION = np.array([motion in ("up", "down") for motion in MOTIONS], int)
_ONE = (6, 5, 6, 4)  # motions, shapes, colors, backgrounds

_COLORS_63 = np.array([RGB[color] for color in COLORS], np.float32) / 255
_GROUNDS_43 = np.array([RGB[color] for color in BACKGROUNDS], np.float32) / 255
_TIMES = np.linspace(0.0, 1.0, NUM_FRAMES)[FEW_FRAMES]
_RAMP_X = np.broadcast_to(RAMP_H[:, None], (len(_TIMES), SIZE, SIZE)).astype(np.float32).ravel()


@dataclass(frozen=True)
class Start:
    """A scene with a coarse layout."""

    scene: Scene
    high_lane: bool
    """In a scene of two objects, the mover has the lane with the larger coordinate."""
    layout: Layout


@dataclass(frozen=True)
class _Places:
    """Coarse positions of one object. Consecutive positions with the same motion and shape are a group."""

    layouts: list[Layout]
    masks_MX: np.ndarray
    """Coverage of all pixels of a few frames."""
    sums_5M: np.ndarray
    """Sums over pixels: coverage times ramp and ramp^2, coverage^2 times 1, ramp and ramp^2."""
    bounds: list[int]
    """Index of each group's first position, then the number of positions."""

    def errors(self, clip_3X: np.ndarray) -> np.ndarray:
        """Return the change of the bare background's squared error by adding an object, [M, 6, 4]."""
        products = self.masks_MX @ np.concatenate([clip_3X, clip_3X * _RAMP_X]).T
        on_color, on_ground = products[:, :3] @ _COLORS_63.T, products[:, 3:] @ _GROUNDS_43.T
        ramp, ramp2, square, square_ramp, square_ramp2 = self.sums_5M[:, :, None, None]
        color2, both, ground2 = (_COLORS_63**2).sum(1)[:, None], _COLORS_63 @ _GROUNDS_43.T, (_GROUNDS_43**2).sum(1)
        agreement = on_color[:, :, None] - on_ground[:, None] - both * ramp + ground2 * ramp2
        energy = color2 * square - 2 * both * square_ramp + ground2 * square_ramp2
        found: np.ndarray = energy - 2 * agreement
        return found

    def least(self, errors_M64: np.ndarray) -> np.ndarray:
        """Return the smallest error of each group, [G, 6, 4]."""
        least: np.ndarray = np.minimum.reduceat(errors_M64, self.bounds[:-1])
        return least

    def nearest(self, errors_M: np.ndarray, group: int) -> Layout:
        """Return the layout with the smallest error in a group."""
        first, end = self.bounds[group : group + 2]
        return self.layouts[first + int(np.argmin(errors_M[first:end]))]


def nearest_starts(clip_3THW: np.ndarray, count: int) -> list[Start]:
    """Return the scenes nearest to `clip_3THW`, each with its best coarse layout.

    Args:
        clip_3THW: all frames, 0 to 1.
        count: number of scenes.
    """
    clip_3X = np.ascontiguousarray(clip_3THW[:, FEW_FRAMES]).reshape(3, -1)
    bare_4 = np.array([np.square(clip_3X - ground[:, None] * _RAMP_X).sum() for ground in _GROUNDS_43])
    errors = {key: _places(*key).errors(clip_3X) for key in _KEYS}
    least = {key: _places(*key).least(errors[key]) for key in _KEYS}

    one = least["alone", False].reshape(*_ONE) + bare_4
    pairs = np.stack([_pairs(least["mover", high], least["other", high]) for high in (False, True)])
    pairs += bare_4[:, None, None]
    starts = []
    flat = np.concatenate([one.ravel(), pairs.min(axis=0).ravel()])
    for index in np.argpartition(flat, count)[:count].tolist():
        if index < one.size:
            motion, shape, color, ground = map(int, np.unravel_index(index, _ONE))
            scene = Scene(SHAPES[shape], COLORS[color], MOTIONS[motion], BACKGROUNDS[ground])
            layout = _nearest("alone", False, errors, motion * 5 + shape, color, ground)
            starts.append(Start(scene, False, layout))
            continue
        place = tuple(map(int, np.unravel_index(index - one.size, pairs.shape[1:])))
        motion, shape, color, ground, other_shape, other_color = place
        high = bool(pairs[1][place] < pairs[0][place])
        named = (SHAPES[other_shape], COLORS[other_color])
        scene = Scene(SHAPES[shape], COLORS[color], MOTIONS[motion], BACKGROUNDS[ground], *named)
        layout = _nearest("mover", high, errors, motion * 5 + shape, color, ground)
        other = _nearest("other", high, errors, _ORIENTATION[motion] * 5 + other_shape, other_color, ground)
        joined = layout._replace(other_lane=other.other_lane, other_along=other.other_along)
        starts.append(Start(scene, high, joined))
    return starts


def _pairs(mover_G64: np.ndarray, other_G64: np.ndarray) -> np.ndarray:
    """Errors of two-object scenes, indexed by motion, shape, color, background, other shape, other color."""
    others = other_G64.reshape(2, 5, 6, 4)[_ORIENTATION].transpose(0, 3, 1, 2)
    pairs: np.ndarray = mover_G64.reshape(*_ONE, 1, 1) + others[:, None, None]
    shape, color = np.indices((5, 6)).reshape(2, -1)
    pairs[:, shape, color, :, shape, color] = np.inf  # no scene has two objects of the same shape and color
    return pairs


def _nearest(
    role: str, high: bool, errors: dict[tuple[str, bool], np.ndarray], group: int, color: int, ground: int
) -> Layout:
    return _places(role, high).nearest(errors[role, high][:, color, ground], group)


@functools.cache
def _places(role: str, high_lane: bool) -> _Places:
    layouts, tracks, bounds = [], [], [0]
    for motion, shape in itertools.product(("right", "down") if role == "other" else MOTIONS, SHAPES):
        scene = Scene(shape, "red", motion, "black", *(() if role == "alone" else ("ring", "blue")))
        grids = [
            _grid(*ends) if name in _GRIDDED[role] else [sum(ends) / 2]
            for name, *ends in zip(Layout._fields, *layout_range(scene, high_lane=high_lane), strict=True)
        ]
        found = [Layout(*numbers) for numbers in itertools.product(*grids)]
        paths = [courses(scene, layout, _TIMES)[role == "other"] for layout in found]
        layouts += found
        tracks.append(coverage(shape, np.stack(paths).astype(np.float32)).reshape(len(found), -1))
        bounds.append(len(layouts))
    masks = np.concatenate(tracks)
    powers = (masks @ _RAMP_X, masks @ _RAMP_X**2, (masks**2).sum(1), masks**2 @ _RAMP_X, masks**2 @ _RAMP_X**2)
    return _Places(layouts, masks, np.stack(powers), bounds)


def _grid(low: float, high: float) -> list[float]:
    count = max(1, round((high - low) / _SPACING))
    return [low + (high - low) * (number + 0.5) / count for number in range(count)]
