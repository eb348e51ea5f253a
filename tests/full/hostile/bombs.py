"""Small files that ask for far more memory, time or trust than they are worth."""

from __future__ import annotations

import functools
import json
import pickle
import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.full.hostile.readers import READERS

NOUGHTS = bytes(2**20)


class Touch:
    """A pickle of it makes the file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (open, (str(self.path), "w"))


def aliases(path: Path) -> None:
    """YAML: ten to the power of ten names in 11 lines."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, 11)]
    path.write_text("\n".join([*lines, "run: *a10", "prompts: *a10"]))


def nested(path: Path) -> None:
    path.write_text("run: " + "[" * 10_000_000)


def nested_a_little(path: Path) -> None:
    path.write_text("run: " + "[" * 50_000)


def nested_json(path: Path) -> None:
    path.write_text("[" * 10_000_000)


def long_line(path: Path) -> None:
    """One JSON object of 2 GiB: sparse on the disk, as NUL."""
    with open(path, "wb") as handle:
        handle.write(b'{"prompt": "')
        handle.truncate(2**31)


def many_texts(path: Path) -> None:
    """3 x 10^7 rows of one text of 1,000 characters, 28 GiB: kilobytes, as every page repeats one entry."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x" * 1000]))
    with pq.ParquetWriter(path, pa.schema({"prompt": text.type}), compression="zstd") as writer:
        for _ in range(30):
            writer.write_table(pa.table({"prompt": text}), row_group_size=1_000_000)


def long_texts(path: Path) -> None:
    """100,000 rows of one text of a million characters: 93 GiB."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 100_000, pa.int32()), pa.array(["x" * 1_000_000]))
    pq.write_table(pa.table({"prompt": text}), path, compression="zstd")


def many_columns(path: Path) -> None:
    """A million columns of no rows."""
    path.write_bytes(_million_columns())


@functools.cache
def _million_columns() -> bytes:
    """It takes ten seconds to write."""
    out = BytesIO()
    fields = [pa.field("prompt", pa.string()), *(pa.field(f"c{k}", pa.int8()) for k in range(1_000_000))]
    pq.ParquetWriter(out, pa.schema(fields), store_schema=False).close()
    return out.getvalue()


def inflating_lines(path: Path) -> None:
    """Gzip of 2 GiB in 2 MiB."""
    packer = zlib.compressobj(wbits=31)
    with open(path, "wb") as handle:
        handle.write(packer.compress(b'{"prompt": "'))
        for _ in range(2048):
            handle.write(packer.compress(NOUGHTS))
        handle.write(packer.flush())


def large_header(path: Path) -> None:
    """A safetensors file that says its header has 10^12 bytes."""
    path.write_bytes(struct.pack("<Q", 10**12) + b'{"a":')


def large_tensor(path: Path) -> None:
    """A safetensors file of 100 bytes with a tensor of 10^12."""
    header = json.dumps({"0": {"dtype": "F32", "shape": [250_000_000_000], "data_offsets": [0, 10**12]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def touching(path: Path) -> None:
    """A pickle that makes the file `touched` beside it."""
    path.write_bytes(pickle.dumps({"state_dict": Touch(path.with_name("touched"))}))


def touching_archive(path: Path) -> None:
    """The same as torch.save writes it."""
    import torch

    torch.save({"state_dict": Touch(path.with_name("touched"))}, path)


def raising_script(path: Path) -> None:
    """TorchScript whose own code is run as it is loaded, and raises."""
    import torch

    class Script(torch.nn.Module):
        @torch.jit.export
        def __getstate__(self):
            return torch.ones(3)

        @torch.jit.export
        def __setstate__(self, state):
            self.training = False
            raise ValueError("this ran")

    torch.jit.script(Script()).save(str(path))


def touching_index(path: Path) -> None:
    """A training state's index that makes a file when it is loaded."""
    READERS["state metadata"].make(path)
    path.write_bytes(pickle.dumps(Touch(path.with_name("touched"))))


def touching_value(path: Path) -> None:
    """A training state in whose tensors' file one value, the learning rate, makes a file when it is loaded."""
    import io

    import torch

    READERS["state tensors"].make(path)
    hostile = io.BytesIO()
    torch.save(Touch(path.with_name("touched")), hostile)
    index = pickle.loads(next(path.parent.glob("whole/*/*/.metadata")).read_bytes())
    place = next(info for key, info in index.storage_data.items() if key.fqn.endswith("lr"))
    content = path.read_bytes()
    path.write_bytes(content[: place.offset] + hostile.getvalue())
    index.storage_data = {
        key: info if info is not place else type(place)(place.relative_path, place.offset, len(hostile.getvalue()))
        for key, info in index.storage_data.items()
    }
    next(path.parent.glob("whole/*/*/.metadata")).write_bytes(pickle.dumps(index))


def inflating(path: Path) -> None:
    """A checkpoint of torch.save whose tensor is 1 GiB of noughts, deflated to 5 MiB."""
    import torch

    whole = path.with_name("whole.pt")
    torch.save({"a": torch.zeros(2)}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target:
        for entry in source.infolist():
            if not entry.filename.endswith("data/0"):
                target.writestr(entry.filename, source.read(entry))
                continue
            with target.open(entry.filename, "w", force_zip64=True) as handle:
                for _ in range(1024):
                    handle.write(NOUGHTS)


def _boxes(path: Path, name: bytes) -> tuple[bytearray, int]:
    """A small film, and where the content of its first box `name` starts."""
    READERS["video"].make(path)
    content = bytearray(path.read_bytes())
    return content, content.index(name) + 4


def billion_frames(path: Path) -> None:
    """A film of 4 frames that declares 10^9: in its lengths, its times and its table of samples."""
    content, stts = _boxes(path, b"stts")
    content[stts + 8 : stts + 12] = struct.pack(">I", 10**9)
    for name, place in ((b"mdhd", 16), (b"mvhd", 16), (b"tkhd", 20)):
        start = content.index(name) + 4
        content[start + place : start + place + 4] = struct.pack(">I", 2**31)
    path.write_bytes(content)


def billion_samples(path: Path) -> None:
    """A film whose one chunk has 10^9 samples of one byte."""
    content, stsz = _boxes(path, b"stsz")
    content[stsz + 4 : stsz + 12] = struct.pack(">II", 1, 10**9)
    stsc = content.index(b"stsc") + 4
    content[stsc + 12 : stsc + 16] = struct.pack(">I", 10**9)
    path.write_bytes(content)


def huge_picture(path: Path) -> None:
    """H.264 of 16,384 x 8,192: one frame of one colour."""
    import av
    import numpy as np

    with av.open(str(path), "w") as box:
        stream: Any = box.add_stream("libx264", rate=8)
        stream.width, stream.height = 16384, 8192
        stream.pix_fmt, stream.options = "gray", {"preset": "ultrafast"}
        frame = av.VideoFrame.from_ndarray(np.zeros((8192, 16384), np.uint8), format="gray")
        box.mux(stream.encode(frame))
        box.mux(stream.encode())


def huge_png(path: Path) -> None:
    """A PNG that says it is 65,535 x 65,535, named as a film."""
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)
    body = zlib.compress(NOUGHTS * 64)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
