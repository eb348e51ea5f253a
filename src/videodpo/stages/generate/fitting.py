"""Fit a video of any size, length and frame rate to the frames that `generate.sampling` asks for.

Legend: T frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from videodpo.config import Sampling
from videodpo.storage.video import Film, UnreadableVideo

ROUNDING = 1e-6  # seconds; times that differ by less count as equal


def is_exact(film: Film, size: Sampling) -> bool:
    """True if fitting would use every frame of the video once, without cropping or scaling."""
    if film.frames_THWC.shape[:3] != (size.num_frames, size.height, size.width):
        return False
    return np.array_equal(_nearest(film.times(), size), np.arange(size.num_frames))


def describe(film: Film) -> str:
    """Length, size and frame rate of a video, for messages."""
    num_frames, height, width, _ = film.frames_THWC.shape
    times = film.times()
    step = _mean_step(film, times)
    text = f"{num_frames} frames of {height} x {width} at {1 / step if step else film.fps:.6g} fps"
    if np.abs(times - np.arange(num_frames) * step).max() > step / 2:
        text += " on average, with a variable frame rate"
    if film.pixel_shape != 1:
        shape = f"{film.pixel_shape.numerator}:{film.pixel_shape.denominator}"
        text += f" (as a player shows its pixels of {shape}; ffmpeg's filter setsar=1 makes them square)"
    return text


def nearest_size(film: Film, sizes: Sequence[Sampling]) -> Sampling:
    """Size with the aspect ratio nearest to the video's; of several, the longest that the video can fill.

    Args:
        film: the video.
        sizes: candidates; the first of several equally good ones is taken.
    """
    _, height, width, _ = film.frames_THWC.shape
    seconds = _reach(film, film.times())

    def rank(size: Sampling) -> tuple[Fraction, int]:
        ratio = Fraction(size.height * width, size.width * height)
        return max(ratio, 1 / ratio), -size.num_frames if _last_time(size) < seconds else 0

    return min(sizes, key=rank)


def fit_frames(film: Film, size: Sampling) -> np.ndarray:
    """Crop and scale a video: take the frames nearest to the wanted times, and their centre in the wanted shape.

    Args:
        film: the video.
        size: the wanted number of frames, rate, height and width.

    Returns:
        uint8 RGB [T, H, W, 3].

    Raises:
        UnreadableVideo: the video is too short, or has no time stamps.
    """
    import cv2

    times = film.times()
    if _last_time(size) >= _reach(film, times):
        raise UnreadableVideo(
            f"{film.name}: {len(times)} frames in {times[-1] + _mean_step(film, times):.4g} seconds are too short for "
            f"{size.num_frames} at {size.fps:g} fps"
        )
    _, height, width, _ = film.frames_THWC.shape
    scale = max(size.height / height, size.width / width)
    cut_y, cut_x = (min(side, round(want / scale)) for side, want in ((height, size.height), (width, size.width)))
    top, left = (height - cut_y) // 2, (width - cut_x) // 2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    middle = film.frames_THWC[_nearest(times, size), top : top + cut_y, left : left + cut_x]
    shape = (size.width, size.height)
    return np.stack([cv2.resize(np.ascontiguousarray(frame), shape, interpolation=method) for frame in middle])


def _nearest(times_T: np.ndarray, size: Sampling) -> np.ndarray:
    """Index of the frame nearest to each wanted time; of two equally near frames, the later one."""
    between = (times_T[1:] + times_T[:-1]) / 2
    wanted = np.arange(size.num_frames) / size.fps
    numbers: np.ndarray = np.searchsorted(between, wanted + ROUNDING, side="right")
    return numbers


def _reach(film: Film, times_T: np.ndarray) -> float:
    """Time in seconds up to which the last frame is the nearest one: half its duration after its time stamp."""
    return float(times_T[-1]) + max(film.last_seconds / 2, _mean_step(film, times_T) / 2, ROUNDING)


def _last_time(size: Sampling) -> float:
    return (size.num_frames - 1) / size.fps


def _mean_step(film: Film, times_T: np.ndarray) -> float:
    """Mean seconds from one frame to the next; for a single frame, how long the file shows it."""
    return float(times_T[-1]) / (len(times_T) - 1) if len(times_T) > 1 else film.last_seconds
