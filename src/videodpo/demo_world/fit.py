"""Find the clip of the demo world that is nearest to a given clip.

Nearest means the smallest squared difference over all pixels. The continuous parameters of each candidate scene are
fitted by Levenberg-Marquardt within the world's ranges.

Legend: N hypotheses (a scene with a layout), T frames, K the two objects (mover, other), P parameters of a
layout, C components of a course (x, y, radius), H height, W width; an axis of 3 is RGB.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from videodpo.demo_world.captions import Scene
from videodpo.demo_world.layout import Layout, courses, layout_range
from videodpo.demo_world.render import NUM_FRAMES, RAMP_H, RGB, coverage
from videodpo.demo_world.screening import FEW_FRAMES, Start, nearest_starts

_SCENES = 24
_COARSE_ITERATIONS, _ITERATIONS = 2, 5
_FINALISTS = 4


@dataclass(frozen=True)
class Nearest:
    """A clip of the demo world, with its scene and layout."""

    scene: Scene
    layout: Layout
    clip_THW3: np.ndarray
    """float32, 0 to 1."""
    background_H3: np.ndarray
    """Color of each row without objects, 0 to 1."""


class _Hypotheses:
    """Scenes whose layouts are fitted to one clip together, in one batch."""

    def __init__(self, starts: Sequence[Start]) -> None:
        self.starts, self.scenes = starts, [start.scene for start in starts]
        ranges = [layout_range(start.scene, high_lane=start.high_lane) for start in starts]
        self.low_NP, self.high_NP = np.array(ranges, np.float32).swapaxes(0, 1)
        self.layout_NP = np.array([start.layout for start in starts], np.float32)
        self.ways_NTKCP = np.stack([_ways(scene) for scene in self.scenes])
        self.colors_NK3 = np.array([(_rgb(scene.color), _rgb(scene.other_color)) for scene in self.scenes], np.float32)
        grounds_N3 = np.array([_rgb(scene.background) for scene in self.scenes], np.float32)
        self.grounds_N3H = grounds_N3[:, :, None] * RAMP_H.astype(np.float32)

    def __len__(self) -> int:
        return len(self.scenes)

    def chosen(self, rows: Sequence[int] | np.ndarray) -> _Hypotheses:
        """Return these hypotheses, in this order."""
        found = _Hypotheses([self.starts[row] for row in rows])
        found.layout_NP = self.layout_NP[rows]
        return found

    def courses(self, frames: slice) -> np.ndarray:
        """Return the objects' courses, [N, T, K, C]."""
        found: np.ndarray = np.einsum("ntkcp,np->ntkc", self.ways_NTKCP[:, frames], self.layout_NP)
        return found

    def coverages(self, courses_NTKC: np.ndarray) -> np.ndarray:
        """Return each object's coverage of each pixel, [N, K, T, H, W]."""
        shares = np.zeros((len(self), 2, courses_NTKC.shape[1], len(RAMP_H), len(RAMP_H)), np.float32)
        named = [((scene.shape, n, 0), (scene.other_shape, n, 1)) for n, scene in enumerate(self.scenes)]
        groups: dict[str, list[tuple[int, int]]] = {}
        for shape, n, k in itertools.chain(*named):
            if shape is not None:
                groups.setdefault(shape, []).append((n, k))
        for shape, places in groups.items():
            n, k = np.array(places).T
            shares[n, k] = coverage(shape, courses_NTKC[n, :, k])
        return shares

    def paint(self, shares_NKTHW: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the clips [N, 3, T, H, W], and the change of color that each object makes to a pixel it covers."""
        grounds = self.grounds_N3H[:, :, None, :, None]
        mover, other = self.colors_NK3[:, 0, :, None, None, None], self.colors_NK3[:, 1, :, None, None, None]
        under = grounds + shares_NKTHW[:, None, 1] * (other - grounds)
        return under + shares_NKTHW[:, None, 0] * (mover - under), mover - under, other - grounds


def nearest_clip(frames_THW3: np.ndarray) -> Nearest:
    """Return the nearest of all clips that the world can draw.

    Args:
        frames_THW3: uint8, a clip of the world's size.
    """
    clip = np.ascontiguousarray(frames_THW3.transpose(3, 0, 1, 2), np.float32) / 255
    hypotheses = _Hypotheses(nearest_starts(clip, _SCENES))
    errors = _fit(hypotheses, clip[:, FEW_FRAMES], FEW_FRAMES, _COARSE_ITERATIONS)
    hypotheses = hypotheses.chosen(np.argsort(errors, kind="stable")[:_FINALISTS])
    errors = _fit(hypotheses, clip, slice(None), _ITERATIONS)
    best = hypotheses.chosen([int(np.argmin(errors))])
    painted, _, _ = best.paint(best.coverages(best.courses(slice(None))))
    layout = Layout(*best.layout_NP[0].tolist())
    return Nearest(best.scenes[0], layout, painted[0].transpose(1, 2, 3, 0), best.grounds_N3H[0].T)


def _fit(hypotheses: _Hypotheses, clip: np.ndarray, frames: slice, iterations: int) -> np.ndarray:
    """Fit the layouts in place by Levenberg-Marquardt; return the squared errors [N]."""
    best_N, slope_NP, curve_NPP = _normal_equations(hypotheses, clip, frames)
    best_NP = hypotheses.layout_NP
    damping_N = np.full(len(best_N), 1e-3, np.float32)
    for _ in range(iterations):
        hypotheses.layout_NP = _stepped(hypotheses, best_NP, slope_NP, curve_NPP, damping_N)
        errors_N, new_slope_NP, new_curve_NPP = _normal_equations(hypotheses, clip, frames)
        better = errors_N < best_N
        best_N = np.where(better, errors_N, best_N)
        best_NP = np.where(better[:, None], hypotheses.layout_NP, best_NP)
        slope_NP = np.where(better[:, None], new_slope_NP, slope_NP)
        curve_NPP = np.where(better[:, None, None], new_curve_NPP, curve_NPP)
        damping_N = np.where(better, damping_N * 0.3, damping_N * 10)
    hypotheses.layout_NP = best_NP
    return best_N


def _stepped(
    hypotheses: _Hypotheses,
    layout_NP: np.ndarray,
    slope_NP: np.ndarray,
    curve_NPP: np.ndarray,
    damping_N: np.ndarray,
) -> np.ndarray:
    """Take one damped Gauss-Newton step. A parameter at a bound stays there if the step leads out of its range."""
    low, high = hypotheses.low_NP, hypotheses.high_NP
    free = ~(((layout_NP <= low) & (slope_NP < 0)) | ((layout_NP >= high) & (slope_NP > 0)))
    matrix = curve_NPP * (free[:, :, None] & free[:, None, :])
    diagonal = np.einsum("npp->np", matrix)  # a view
    diagonal += damping_N[:, None] * diagonal + 1e-3
    step_NP = np.linalg.solve(matrix, (slope_NP * free)[..., None])[..., 0]
    stepped: np.ndarray = np.clip(layout_NP + step_NP, low, high).astype(np.float32)
    return stepped


def _normal_equations(hypotheses: _Hypotheses, clip: np.ndarray, frames: slice) -> tuple[np.ndarray, ...]:
    """Return error [N], descent direction J^T r [N, P] and J^T J [N, P, P].

    J^T J omits the cross terms of the two objects, because objects hardly ever touch.
    """
    courses_NTKC = hypotheses.courses(frames)
    shares = hypotheses.coverages(courses_NTKC)
    painted, change_mover, change_other = hypotheses.paint(shares)
    rest = clip - painted
    visible = 1 - shares[:, 0]
    pulls = np.stack([(change_mover * rest).sum(1), visible * (change_other * rest).sum(1)], axis=1)
    weights = np.stack([(change_mover**2).sum(1), visible**2 * (change_other**2).sum(1)], axis=1)
    rates = np.stack(_rates(hypotheses, courses_NTKC, shares), axis=3)  # [N, K, T, C, H, W]
    flat = rates.reshape(*rates.shape[:4], -1)
    slope_NKTC = (flat @ pulls.reshape(*pulls.shape[:3], -1, 1))[..., 0]
    curve_NKTCC = (flat * weights.reshape(*weights.shape[:3], 1, -1)) @ flat.swapaxes(-1, -2)
    ways = hypotheses.ways_NTKCP[:, frames]
    slope = np.einsum("nktc,ntkcp->np", slope_NKTC, ways)
    curve = np.einsum("ntkcp,nktcd,ntkdq->npq", ways, curve_NKTCC, ways, optimize=True)
    return np.square(rest).sum(axis=(1, 2, 3, 4), dtype=np.float64), slope, curve


def _rates(hypotheses: _Hypotheses, courses_NTKC: np.ndarray, shares: np.ndarray) -> list[np.ndarray]:
    """Return the derivatives of coverages with respect to x, y and radius of their object.

    They are central differences over two pixels, because differences over less than a pixel would see only the outline.
    For x and y, the coverages are shifted instead of the object.
    """
    x_rates, y_rates = np.zeros_like(shares), np.zeros_like(shares)
    x_rates[..., 1:-1] = (shares[..., :-2] - shares[..., 2:]) / 2
    y_rates[..., 1:-1, :] = (shares[..., :-2, :] - shares[..., 2:, :]) / 2
    wider = np.array([0.0, 0.0, 1.0], np.float32)
    larger, smaller = (hypotheses.coverages(courses_NTKC + step) for step in (wider, -wider))
    return [x_rates, y_rates, (larger - smaller) / 2]


@functools.cache
def _ways(scene: Scene) -> np.ndarray:
    """Matrices that convert a layout to courses, [T, K, C, P]. Courses are linear in the layout."""
    time_T = np.linspace(0.0, 1.0, NUM_FRAMES)
    columns = [np.stack(courses(scene, Layout(*unit), time_T), axis=1) for unit in np.eye(len(Layout._fields))]
    return np.stack(columns, axis=-1).astype(np.float32)


def _rgb(color: str | None) -> tuple[float, float, float]:
    red, green, blue = RGB[color] if color else (0, 0, 0)
    return red / 255, green / 255, blue / 255
