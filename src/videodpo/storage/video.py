"""Encode frames to MP4 and decode videos; the only module that reads or writes video files.

Legend: T frames, H height, W width.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import ColorTrc, Interpolation

from videodpo.config.errors import InputError
from videodpo.storage.files import atomic_path

MAX_PIXELS = 8192 * 8192  # per frame
MAX_BYTES = 4 * 2**30  # decoded frames of one clip; a longer clip is refused

MAX_STEP_BACK = 1.0  # seconds between time stamps that are out of order

_AVX_512F = 13  # OpenCV's number of this feature; its Python module has no name for it
_HDR = {ColorTrc.SMPTE2084: "PQ", ColorTrc.ARIB_STD_B67: "HLG"}


class UnreadableVideo(InputError):
    """The file contains no video that can be decoded."""


@dataclass(frozen=True)
class Film:
    """A decoded video."""

    name: str
    """Name of the file, for messages."""
    frames_THWC: np.ndarray
    """uint8 RGB frames as a player shows them: upright, with square pixels."""
    fps: float
    """Average frame rate; 0.0 if the file declares none."""
    stamps_T: list[float | None]
    """Time stamp of each frame in seconds; None if it has none."""
    last_seconds: float
    """Duration of the last frame in seconds; 0.0 if the file does not declare it."""
    pixel_shape: Fraction
    """Width of a stored pixel divided by its height (sample aspect ratio)."""
    plays_in_browsers: bool
    """True if the file is an MP4 with H.264 in yuv420p and square pixels."""

    def times(self) -> np.ndarray:
        """Seconds from the first frame to each frame, in ascending order, [T].

        Raises:
            UnreadableVideo: the file has no time stamps, or they jump back.
        """
        stamps = [stamp for stamp in self.stamps_T if stamp is not None]
        if len(stamps) < len(self.stamps_T):
            raise UnreadableVideo(
                f"{self.name}: frames without time stamps; put the video into a container that has them, for example "
                "with ffmpeg -r RATE -i VIDEO -c copy VIDEO.mp4"
            )
        if np.diff(stamps).min(initial=0.0) < -MAX_STEP_BACK:
            raise UnreadableVideo(f"{self.name}: its time stamps jump back; re-encode the video, or split it")
        # Decoders return frames in display order; AVI stores the times in decoding order.
        ascending: np.ndarray = np.sort(np.array(stamps))
        times: np.ndarray = ascending - ascending[0]
        return times


def write_mp4(path: Path, frames_THWC: np.ndarray, fps: float, *, crf: int = 18) -> None:
    """Encode H.264 (yuv420p, faststart: plays in every browser) atomically and reproducibly.

    Args:
        path: final path.
        frames_THWC: uint8 RGB, with even height and width.
        fps: frames per second.
        crf: x264 quality, 0 (lossless) to 51.

    Raises:
        InputError: the frames have another type or an odd side.
    """
    if frames_THWC.dtype != np.uint8 or frames_THWC.ndim != 4 or frames_THWC.shape[-1] != 3:
        raise InputError(f"frames: {frames_THWC.dtype} {frames_THWC.shape}; uint8 [T, H, W, 3] is needed")
    _, height, width, _ = frames_THWC.shape
    if height % 2 or width % 2:
        raise InputError(f"frames: {height} x {width}; H.264 in yuv420p needs even sides")
    with (
        atomic_path(path) as partial,
        av.open(_as_file(partial), "w", format="mp4", options={"movflags": "faststart"}) as box,
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
    """Options that turn off x264's AVX-512 code on CPUs that have it.

    The AVX-512 code gave other bytes for the same frames in 19 of 432 encodings; the AVX2 code never did.
    """
    import cv2

    return {"x264-params": "asm=AVX2"} if cv2.checkHardwareSupport(_AVX_512F) else {}


def read_mp4(path: Path) -> tuple[np.ndarray, float]:
    """Decode every frame as a player shows it: upright, with square pixels, at its native size.

    Returns:
        uint8 RGB [T, H, W, 3], and the average frame rate (0.0 if the file declares none).

    Raises:
        UnreadableVideo: the file is missing, empty, damaged, HDR or too long, has no video stream, or has frames of
            several sizes.
    """
    film = read_film(path)
    return film.frames_THWC, film.fps


def read_film(path: Path, *, max_seconds: float | None = None) -> Film:
    """As `read_mp4`, with the time stamps and the pixel shape.

    Args:
        path: the file.
        max_seconds: decode only this many seconds from the start; None decodes all.

    Raises:
        UnreadableVideo: as `read_mp4`.
    """
    name = str(path.absolute())
    if not path.is_file():
        raise UnreadableVideo(f"{name}: no such file")
    if path.stat().st_size == 0:
        raise _is_empty(name)
    return _decoded(_as_file(path), name, max_seconds)


def decode_mp4(content: bytes, name: str) -> tuple[np.ndarray, float]:
    """As `read_mp4`, for bytes in memory.

    Args:
        content: bytes of the file.
        name: name of the file, for messages.

    Raises:
        UnreadableVideo: as `read_mp4`.
    """
    if not content:
        raise _is_empty(name)
    film = _decoded(io.BytesIO(content), name, None)
    return film.frames_THWC, film.fps


def decode_squares(content: bytes, name: str, numbers: Sequence[int], side: int) -> np.ndarray:
    """Decode some frames, scaled to a square by FFmpeg's bilinear filter; their aspect ratio is not kept.

    VBench's reader, decord, scales in this way. PyAV's own `reformat` differs by up to 74 of 255.

    Args:
        content: bytes of a file that `decode_mp4` reads.
        name: name of the file, for messages.
        numbers: numbers of the frames, ascending, each once.
        side: height and width in pixels.

    Returns:
        uint8 RGB [T, side, side, 3], upright.

    Raises:
        UnreadableVideo: as `read_mp4`.
    """
    squares: list[np.ndarray] = []
    try:
        with av.open(io.BytesIO(content), "r", metadata_errors="replace") as box:
            stream: Any = box.streams.best("video")
            graph = av.filter.Graph()
            nodes = [graph.add("scale", f"{side}:{side}:flags=bilinear"), graph.add("format", "rgb24")]
            graph.link_nodes(graph.add_buffer(template=stream), *nodes, graph.add("buffersink")).configure()
            for number, frame in enumerate(box.decode(stream)):
                if number == numbers[len(squares)]:
                    graph.vpush(frame)
                    squares.append(np.rot90(graph.vpull().to_ndarray(), k=round(frame.rotation / 90)))
                    if len(squares) == len(numbers):
                        break
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(f"{name}: {error.strerror or error}") from error
    return np.stack(squares)


def _is_empty(name: str) -> UnreadableVideo:
    return UnreadableVideo(f"{name}: the file is empty")


def _as_file(path: Path) -> str:
    """FFmpeg URL of a file. FFmpeg would parse a plain `12:30.mp4` as a protocol, and `concat:x` as a command."""
    return f"file:{path}"


def _decoded(file: str | io.BytesIO, name: str, max_seconds: float | None) -> Film:
    frames: list[np.ndarray] = []
    stamps: list[float | None] = []
    try:
        with av.open(file, "r", metadata_errors="replace") as box:
            stream = box.streams.best("video")
            if stream is None:
                raise UnreadableVideo(f"{name}: no video stream")
            assert isinstance(stream, av.VideoStream)
            codec: Any = stream.codec_context
            if codec:  # None if the codec is unknown
                _refuse_size(codec.width, codec.height, name)
                _refuse_hdr(codec.color_trc, name)
            pixel_shape = stream.sample_aspect_ratio or Fraction(1)
            for frame in box.decode(stream):
                if max_seconds is not None and _seconds_between(stamps, frame) > max_seconds:
                    break
                _refuse_hdr(frame.color_trc, name)
                frames.append(_as_shown(frame, pixel_shape, name))
                stamps.append(frame.time)
                last_seconds = float(frame.duration * frame.time_base) if frame.time_base else 0.0
                if len(frames) * frames[0].nbytes > MAX_BYTES:
                    raise UnreadableVideo(f"{name}: too long: its decoded frames have more than {MAX_BYTES:,} bytes")
            if not frames:
                raise UnreadableVideo(f"{name}: no frames")
            plays = pixel_shape == 1 and _is_mp4(box) and codec.name == "h264" and codec.pix_fmt == "yuv420p"
            fps = float(stream.average_rate or 0.0)
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(f"{name}: {error.strerror or error}") from error
    if any(frame.shape != frames[0].shape for frame in frames):
        raise UnreadableVideo(f"{name}: its frames have several sizes")
    return Film(name, np.stack(frames), fps, stamps, last_seconds, pixel_shape, plays)


def _seconds_between(stamps: list[float | None], frame: av.VideoFrame) -> float:
    """Seconds from the first frame to this one; 0.0 if one of the two has no time stamp."""
    if not stamps or stamps[0] is None or frame.time is None:
        return 0.0
    return frame.time - stamps[0]


def _is_mp4(box: Any) -> bool:
    """True for the MP4 family except QuickTime, whose container FFmpeg reads with the same demuxer."""
    return "mp4" in box.format.name.split(",") and box.metadata.get("major_brand", "qt  ") != "qt  "


def _refuse_size(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise UnreadableVideo(f"{name}: {width} x {height} pixels per frame, {MAX_PIXELS:,} are allowed")


def _refuse_hdr(transfer: int, name: str) -> None:
    if transfer in _HDR:
        raise UnreadableVideo(
            f"{name}: an HDR video ({_HDR[ColorTrc(transfer)]}), whose colours would be washed out; convert it to SDR, "
            "for example with ffmpeg's filters zscale and tonemap"
        )


def _as_shown(frame: av.VideoFrame, pixel_shape: Fraction, name: str) -> np.ndarray:
    """RGB frame as a player shows it: phones store rotated videos, DVDs use pixels that are not square."""
    width, height = frame.width, frame.height
    if pixel_shape > 1:
        width = round(width * pixel_shape)
    else:
        height = round(height / pixel_shape)
    _refuse_size(width, height, name)
    is_square = (width, height) == (frame.width, frame.height)
    scaling: dict[str, Any] = (
        {} if is_square else {"width": width, "height": height, "interpolation": Interpolation.BICUBIC}
    )
    rgb = frame.to_ndarray(format="rgb24", **scaling)
    return np.rot90(rgb, k=round(frame.rotation / 90))
