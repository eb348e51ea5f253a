"""Small files that would decode to huge sizes are refused before they are decoded."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from videodpo.config import ConfigError, Source
from videodpo.config.errors import InputError
from videodpo.config.loading import read_config
from videodpo.stages.prompts.sources import read_rows
from videodpo.storage.tables import read_table
from videodpo.storage.video import UnreadableVideo, read_mp4, write_mp4


def many_texts(path: Path) -> None:
    """Write 30 million rows of the same 1,000 characters: 28 GiB decoded, kilobytes with a dictionary."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x" * 1000]))
    with pq.ParquetWriter(path, pa.schema({"prompt": text.type}), compression="zstd") as writer:
        for _ in range(30):
            writer.write_table(pa.table({"prompt": text}), row_group_size=1_000_000)


def large_footer(path: Path) -> None:
    """Write a file with a footer of 32 MiB, which could describe a million columns."""
    path.write_bytes(b"PAR1" + bytes(2**25) + struct.pack("<I", 2**25) + b"PAR1")


@pytest.mark.parametrize(("bomb", "says"), [(many_texts, "rows"), (large_footer, "footer")])
def test_a_parquet_bomb_is_refused_as_table_and_as_prompts(bomb, says, tmp_path):
    path = tmp_path / "bomb.parquet"
    bomb(path)
    with pytest.raises(InputError, match=says):
        read_table(path)
    with pytest.raises(InputError, match=says):
        next(read_rows(Source(kind="parquet", path=str(path)), 0))


def test_texts_of_a_table_that_are_too_long_are_refused(tmp_path):
    path = tmp_path / "bomb.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 1_000_000]))
    pq.write_table(pa.table({"prompt": text}), path, compression="zstd")
    with pytest.raises(InputError, match="bytes of text"):
        read_table(path)


def test_a_configuration_above_a_mebibyte_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("run: " + "[" * 2**21)
    with pytest.raises(ConfigError, match="larger than"):
        read_config(tmp_path / "config.yaml")


def test_a_film_that_declares_a_billion_frames_has_the_frames_in_the_file(tmp_path):
    path = tmp_path / "clip.mp4"
    write_mp4(path, np.zeros((4, 32, 32, 3), np.uint8), 8.0, crf=40)
    content = bytearray(path.read_bytes())
    for name, offset, value in ((b"stts", 8, 10**9), (b"mdhd", 16, 2**31), (b"mvhd", 16, 2**31), (b"tkhd", 20, 2**31)):
        start = content.index(name) + 4 + offset
        content[start : start + 4] = struct.pack(">I", value)
    path.write_bytes(content)
    assert len(read_mp4(path)[0]) == 4


def test_a_film_of_huge_frames_is_refused(tmp_path):
    with av.open(str(tmp_path / "clip.mp4"), "w") as box:
        stream = box.add_stream("libx264", rate=8)
        stream.width, stream.height = 16384, 8192
        stream.pix_fmt, stream.options = "gray", {"preset": "ultrafast"}
        box.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((8192, 16384), np.uint8), format="gray")))
        box.mux(stream.encode())
    with pytest.raises(UnreadableVideo, match="pixels"):
        read_mp4(tmp_path / "clip.mp4")
