"""Read the lines of a UTF-8 text file, plain or compressed, or raise an error that says what the file is instead."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from videodpo.config import ConfigError

MAX_LINE = 16 * 2**20  # bytes per line, characters per CSV field
MAX_UNPACKED = 16 * 2**30  # bytes of a file after decompression
HEAD = 2**16  # bytes from which the kind of a file is recognised

PARQUET = b"PAR1"
_GZIP = b"\x1f\x8b"
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")  # a frame, or a skippable frame before it
_UNPACK = "unpack it (only gzip and zstd are unpacked while reading)"
_OTHERS = {
    b"version https://git-lfs": ("a Git LFS pointer", "fetch the file itself with git lfs pull"),
    PARQUET: ("a Parquet file", "prompts.source.kind: parquet reads it"),
    b"PK\x03\x04": ("a ZIP archive or a spreadsheet", "unpack it, or export it as CSV"),
    b"\xd0\xcf\x11\xe0": ("a spreadsheet or document of Microsoft Office", "export it as CSV"),
    b"%PDF": ("a PDF", "export it as text"),
    b"SQLite format 3": ("an SQLite database", "export the table as CSV"),
    b"BZh": ("compressed with bzip2", _UNPACK),
    b"\xfd7zXZ": ("compressed with xz", _UNPACK),
    b"7z\xbc\xaf": ("a 7-Zip archive", _UNPACK),
}
_HTML = re.compile(rb"\s*<(?:!doctype\s+html|html[\s>])", re.IGNORECASE)
_MARKS = (b"\xff\xfe\0\0", b"\0\0\xfe\xff", b"\xff\xfe", b"\xfe\xff")  # byte-order marks of UTF-32, then of UTF-16
_CONTROLS = re.compile("[\0-\x08\x0e-\x1a\x1c-\x1f]")  # without those for layout and terminals


def read_text(path: Path) -> Iterator[str]:
    """Yield the lines with their ends: line feed, carriage return or both.

    Raises:
        ConfigError: not readable, not UTF-8, a line is too long, or the file is not text; the message names the line.
    """
    number = total = 0
    try:
        with open(path, "rb") as raw, _unpacked(raw) as file:
            head = file.peek(HEAD)[:HEAD]
            _refuse_other_content(path, head)
            while block := file.readline(MAX_LINE + 1):
                total += len(block)
                if len(block) > MAX_LINE or total > MAX_UNPACKED:
                    raise ConfigError(
                        f"prompts.source.path: {path}, line {number + 1}: a line may have {MAX_LINE:,} bytes, the "
                        f"(unpacked) file {MAX_UNPACKED:,}; split it"
                    )
                for line in block.splitlines(keepends=True):
                    yield line.decode("utf-8" if number else "utf-8-sig")
                    number += 1
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"prompts.source.path: {path.name}, line {number + 1}: not UTF-8 ({error.reason}); "
            f"convert the file, for example with iconv -f {_wide_encoding(head) if 0 in head else 'LATIN1'} -t UTF-8"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"prompts.source.path: {str(path)!r}: not readable ({reason})") from error


def is_garbled(text: str) -> bool:
    """True if over a twentieth of the text is NUL or control characters, as if UTF-16 was read as UTF-8."""
    return not text.isprintable() and len(_CONTROLS.findall(text)) > max(3, len(text) // 20)


def refuse_other_file(path: Path) -> None:
    """Raise an error that says what a file is that could not be read as a table.

    Raises:
        ConfigError: the first bytes are neither those of Parquet nor of UTF-8 text.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD)
    if not head.startswith(PARQUET):
        _refuse_other_content(path, head)


def _unpacked(raw: io.BufferedReader) -> io.BufferedReader:
    """Content of a file, decompressed if its first bytes ask for it, because suffixes are often wrong."""
    start = raw.peek(4)[:4]
    stream: Any = raw
    if start.startswith(_GZIP):
        stream = gzip.GzipFile(fileobj=raw)
    elif _ZSTD.match(start):
        import pyarrow as pa

        stream = pa.CompressedInputStream(raw, "zstd")
    return io.BufferedReader(stream, HEAD)


def _refuse_other_content(path: Path, head: bytes) -> None:
    found = next((answer for start, answer in _OTHERS.items() if head.startswith(start)), None)
    if _HTML.match(head):
        found = "an HTML page, probably from a failed download", "download the file itself"
    elif is_garbled(head.decode("latin-1")) or head.startswith(_MARKS):
        encoding = _wide_encoding(head)
        found = found or (f"text in {encoding}", f"convert it with iconv -f {encoding} -t UTF-8")
    if found:
        raise ConfigError(f"prompts.source.path: {path}: the file is {found[0]}; {found[1]}")


def _wide_encoding(head: bytes) -> str:
    """UTF-16 or UTF-32 as iconv names them, by the byte-order mark, else by the positions of most NUL bytes."""
    if head.startswith(_MARKS):
        return "UTF-32" if head.startswith(_MARKS[:2]) else "UTF-16"
    a, b, c, d = (head[place::4].count(0) for place in range(4))
    nuls = {"UTF-32LE": c + d, "UTF-32BE": a + b, "UTF-16LE": b + d, "UTF-16BE": a + c}
    return max(nuls, key=lambda encoding: nuls[encoding])  # Latin letters in UTF-32 have the NULs of UTF-16 too
