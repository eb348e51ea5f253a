"""Frames to MP4 and back: the one place that touches video files.

Legend: T frames, H height, W width.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from videodpo.config.errors import InputError
from videodpo.storage.files import atomic_path

MAX_PIXELS = 8192 * 8192  # of one frame
MAX_BYTES = 4 * 2**30  # of decoded frames; a longer clip is refused, not read into memory

_AVX_512F = 13  # OpenCV's number of it, for which its Python module has no name


class UnreadableVideo(InputError):
    """The file holds no video that can be decoded."""


def write_mp4(path: Path, frames_THWC: np.ndarray, fps: float, *, crf: int = 18) -> None:
    """Encode H.264 (yuv420p, faststart: plays in every browser), atomically and reproducibly.

    Args:
        path: final name. frames_THWC: uint8 RGB, even height and width. fps: frames a second.
        crf: x264 quality, 0 (lossless) to 51.

    Raises:
        InputError: frames of another type or with an odd side.
    """
    if frames_THWC.dtype != np.uint8 or frames_THWC.ndim != 4 or frames_THWC.shape[-1] != 3:
        raise InputError(f"frames: {frames_THWC.dtype} {frames_THWC.shape}; uint8 [T, H, W, 3] is needed")
    _, height, width, _ = frames_THWC.shape
    if height % 2 or width % 2:
        raise InputError(f"frames: {height} x {width}; H.264 in yuv420p needs even sides")
    with (
        atomic_path(path) as partial,
        av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"}) as box,
    ):
        # One thread: x264's bytes depend on the thread count.
        stream: Any = box.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": str(crf), "preset": "medium", "threads": "1"} | _without_avx512()
        for frame in frames_THWC:
            box.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        box.mux(stream.encode())


@functools.cache
def _without_avx512() -> dict[str, str]:
    """x264's AVX-512 code gave other bytes for the same frames in 19 of 432 encodings; its AVX2 code never did."""
    import cv2

    return {"x264-params": "asm=AVX2"} if cv2.checkHardwareSupport(_AVX_512F) else {}


def read_mp4(path: Path, *, max_seconds: float | None = None) -> tuple[np.ndarray, float]:
    """Decode every frame at its native size, upright where the file says how, or those of the first seconds.

    Returns:
        uint8 RGB [T, H, W, 3], and the average frame rate (0.0 where the file declares none).

    Raises:
        UnreadableVideo: missing, empty, no video stream, damaged, frames of several sizes, or too long.
    """
    if not path.is_file():
        raise UnreadableVideo(f"{path.name}: no such file")
    if path.stat().st_size == 0:
        raise _is_empty(path.name)
    return _decoded(str(path), path.name, max_seconds)


def decode_mp4(content: bytes, name: str) -> tuple[np.ndarray, float]:
    """As `read_mp4`, of bytes in memory.

    Args:
        name: for messages.
    """
    if not content:
        raise _is_empty(name)
    return _decoded(io.BytesIO(content), name, None)


def _is_empty(name: str) -> UnreadableVideo:
    return UnreadableVideo(f"{name}: the file is empty")


def _decoded(file: str | io.BytesIO, name: str, max_seconds: float | None) -> tuple[np.ndarray, float]:
    frames: list[np.ndarray] = []
    try:
        with av.open(file, "r", metadata_errors="replace") as box:
            if not box.streams.video:
                raise UnreadableVideo(f"{name}: no video stream")
            stream = box.streams.video[0]
            if stream.codec_context:  # None where the codec is not known
                _refuse_size(stream.codec_context.width, stream.codec_context.height, name)
            fps = float(stream.average_rate or 0.0)
            most = None if max_seconds is None or not fps else math.ceil(max_seconds * fps)
            for frame in itertools.islice(box.decode(stream), most):
                _refuse_size(frame.width, frame.height, name)
                frames.append(_upright(frame))
                if len(frames) * frames[0].nbytes > MAX_BYTES:
                    raise UnreadableVideo(f"{name}: too long: more than {MAX_BYTES:,} bytes of frames")
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(f"{name}: {error.strerror or error}") from error
    if not frames:
        raise UnreadableVideo(f"{name}: no frames")
    if any(frame.shape != frames[0].shape for frame in frames):
        raise UnreadableVideo(f"{name}: frames of several sizes")
    return np.stack(frames), fps


def _refuse_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableVideo(f"{name}: {width} x {height} pixels a frame, {MAX_PIXELS:,} are allowed")


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """RGB as a player shows it: phones store films lying on their side."""
    return np.rot90(frame.to_ndarray(format="rgb24"), k=round(frame.rotation / 90))
