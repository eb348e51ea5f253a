"""Difficult clips: every scorer returns a finite number or a reason."""

from __future__ import annotations

import struct
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from videodpo.runtime import registry
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import Unavailable, score_clips
from videodpo.stages.score.read_ahead import Wanted, read_ahead, read_clip
from videodpo.storage.manifests import Damaged
from videodpo.storage.video import read_mp4, write_mp4

ONE = 1 << 16  # 1.0 in a track's display matrix


def picture(height: int, width: int, number: int = 0) -> np.ndarray:
    """A white square that moves down a gradient."""
    frame = np.tile(np.linspace(0, 200, width).astype(np.uint8)[None, :, None], (height, 1, 3))
    frame[4 + number : 12 + number, 4:12] = 255
    return frame


def encode(path: Path, frames: list[np.ndarray], codec: str, pixels: str, times: list[int] | None = None) -> Path:
    """Encode frames with any codec and pixel format; `times` in hundredths of a second."""
    with av.open(str(path), "w") as box:
        stream = box.add_stream(codec, rate=Fraction(8))
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        stream.codec_context.time_base = Fraction(1, 100)
        for number, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.time_base, frame.pts = Fraction(1, 100), times[number] if times else 12 * number
            box.mux(stream.encode(frame))
        box.mux(stream.encode())
    return path


def turned(source: Path, path: Path, matrix: tuple[int, ...]) -> Path:
    """Copy an MP4 with another display matrix in its track header."""
    content = bytearray(source.read_bytes())
    start = content.index(b"tkhd") + 44  # version and flags, times, identity, layer, volume
    content[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [
        ((0, ONE, 0, -ONE, 0, 0, 32 * ONE, 0, 1 << 30), -1),
        ((-ONE, 0, 0, 0, -ONE, 0, 48 * ONE, 32 * ONE, 1 << 30), 2),
        ((0, -ONE, 0, ONE, 0, 0, 0, 48 * ONE, 1 << 30), 1),
    ],
)
def test_a_rotated_film_is_read_upright(tmp_path, matrix, turns):
    write_mp4(tmp_path / "lying.mp4", np.stack([picture(32, 48)] * 3), 8)
    lying, _ = read_mp4(tmp_path / "lying.mp4")
    upright, _ = read_mp4(turned(tmp_path / "lying.mp4", tmp_path / "upright.mp4", matrix))
    assert np.array_equal(upright, np.rot90(lying, turns, axes=(1, 2)))


def test_ten_bits_become_eight(tmp_path):
    frames = [picture(32, 48, number) for number in range(3)]
    found, fps = read_mp4(encode(tmp_path / "ten.mp4", frames, "libx264", "yuv420p10le"))
    assert found.dtype == np.uint8
    assert fps == pytest.approx(8, rel=0.05)
    assert np.abs(found.astype(int) - np.stack(frames)).mean() < 3


def test_frames_of_uneven_duration_are_each_read_once(tmp_path):
    frames = [picture(32, 48, number) for number in range(5)]
    path = encode(tmp_path / "uneven.mkv", frames, "libx264", "yuv420p", times=[0, 2, 40, 41, 90])
    found, fps = read_mp4(path)
    assert len(found) == 5
    assert np.abs(found.astype(int) - np.stack(frames)).mean() < 3
    assert fps > 0


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as box:
        stream = box.add_stream("aac", rate=8000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        box.mux(stream.encode(frame))
        box.mux(stream.encode())
    return path


def no_frames(path: Path) -> Path:
    """A valid header and index without any frame."""
    with av.open(str(path), "w") as box:
        stream = box.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        box.start_encoding()
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (sound, "no video stream"),
        (no_frames, "0.mp4: "),
        (lambda path: path.write_bytes(b""), "empty"),
        (lambda path: path.write_text("a poem\n" * 99), "0.mp4: "),
        (lambda path: path.mkdir(), "no such file"),
    ],
)
def test_a_file_that_is_not_a_film_fails_with_a_reason(tmp_path, make, reason):
    make(tmp_path / "0.mp4")
    found = read_clip(Wanted(tmp_path / "0.mp4", "", num_bytes=0))
    assert isinstance(found, ValueError)
    assert reason in str(found)


def test_a_film_too_large_for_the_memory_fails_and_is_not_read_to_its_end(tmp_path, monkeypatch):
    write_mp4(tmp_path / "0.mp4", np.stack([picture(32, 48)] * 30), 8)
    monkeypatch.setattr("videodpo.storage.video.MAX_BYTES", 10 * 32 * 48 * 3)
    assert "too long" in str(read_clip(Wanted(tmp_path / "0.mp4", "", num_bytes=0)))


def test_prefetching_keeps_the_order_and_limits_its_memory(tmp_path, monkeypatch):
    wanted = []
    for number in range(12):
        write_mp4(tmp_path / f"{number}.mp4", np.stack([picture(32, 48, number)] * 2), 8)
        wanted.append(Wanted(tmp_path / f"{number}.mp4", str(number), num_bytes=2 * 32 * 48 * 3))
    wanted[5] = Wanted(tmp_path / "none.mp4", "5", num_bytes=10**12)  # larger than the limit of prefetched bytes
    monkeypatch.setattr("videodpo.stages.score.read_ahead.MAX_BYTES", 3 * wanted[0].num_bytes)
    asked = []
    monkeypatch.setattr("videodpo.stages.score.read_ahead.read_clip", lambda one: asked.append(one) or read_clip(one))
    with read_ahead(wanted) as clips:
        for number, clip in enumerate(clips):
            assert len(asked) <= number + 1 + 3
            assert clip.prompt == str(number) if number != 5 else "no such file" in str(clip)


def test_stopped_prefetching_leaves_no_thread(tmp_path):
    before = threading.active_count()
    wanted = [Wanted(tmp_path / f"{number}.mp4", "", num_bytes=1) for number in range(40)]
    with read_ahead(wanted) as clips:
        next(clips)
    assert threading.active_count() == before


PLAIN = ["temporal_flickering", "dynamic_degree_dis", "motion_smoothness_dis", "imaging_quality_sharpness"]


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (2, 300)])
@pytest.mark.parametrize("num_frames", [1, 2, 3])
@pytest.mark.parametrize("name", PLAIN)
def test_smallest_clips_have_a_score_or_a_reason(name, num_frames, shape):
    frames = np.random.default_rng(0).integers(0, 256, (num_frames, *shape, 3), dtype=np.uint8)
    scorer = registry.load("videodpo.scorers", name)(None, "cpu")
    ((result,),) = score_clips([scorer], [Clip(frames, 8.0, "a red circle")])
    assert np.isfinite(result) if isinstance(result, float) else "frames" in str(result) or "pixels" in str(result)


def test_retryable_failures_are_distinguished_from_permanent_ones(tmp_path):
    write_mp4(tmp_path / "0.mp4", np.stack([picture(32, 48)] * 2), 8)
    gone = read_clip(Wanted(tmp_path / "1.mp4", "", num_bytes=0))
    with pytest.raises(Damaged, match=r"0\.mp4: sha256 differs"):
        read_clip(Wanted(tmp_path / "0.mp4", "", num_bytes=0, sha256="0" * 64))
    (tmp_path / "2.mp4").write_text("a poem")
    poem = read_clip(Wanted(tmp_path / "2.mp4", "", num_bytes=0))
    assert [isinstance(found, Unavailable) for found in (gone, poem)] == [True, False]
