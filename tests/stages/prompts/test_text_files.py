"""Text files in practice: compressed, in other encodings, or other formats under the name of a text file."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from videodpo.config import ConfigError
from videodpo.stages.prompts import text_files
from videodpo.stages.prompts.clips import clip_rows
from videodpo.stages.prompts.sources import read_rows

from .conftest import prompts_of

TEXTS = ["a red dog runs over the beach", "un café la nuit", "夜の電車"]
KINDS = {
    "text": "".join(f"{text}\n" for text in TEXTS),
    "csv": "prompt,note\n" + "".join(f"{text},x\n" for text in TEXTS),
    "jsonl": "".join(json.dumps({"prompt": text}) + "\n" for text in TEXTS),
}


def read(kind, path):
    return [row.text for row in read_rows(prompts_of(kind, path).source, 0)]


def zstd(data):
    out = pa.BufferOutputStream()
    with pa.CompressedOutputStream(out, "zstd") as stream:
        stream.write(data)
    return out.getvalue().to_pybytes()


SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0" + b"size"  # parallel compressors write one before each frame
PACKED = {
    "gzip": gzip.compress,
    "gzip in two parts": lambda data: gzip.compress(data[:20]) + gzip.compress(data[20:]),
    "zstd": zstd,
    "zstd in two parts": lambda data: SKIPPABLE + zstd(data[:20]) + SKIPPABLE + zstd(data[20:]),
}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("kind", KINDS)
def test_a_compressed_file_is_read_under_any_name(tmp_path, kind, packed):
    path = tmp_path / "prompts.txt"
    path.write_bytes(PACKED[packed](KINDS[kind].encode()))
    assert read(kind, path) == TEXTS


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_a_compressed_list_of_clips_is_read(tmp_path, packed):
    path = tmp_path / {"gzip": "clips.csv.gz", "zstd": "clips.csv.zst"}[packed]
    path.write_bytes(PACKED[packed](b"prompt,path\na red tram,1.mp4\na red tram,2.mp4\n"))
    source = prompts_of("clips", path).source
    (row,) = read_rows(source, 0)
    assert row.text == "a red tram"
    assert clip_rows(source, {}) == []


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_a_damaged_compressed_file_is_refused(tmp_path, packed):
    path = tmp_path / "prompts.txt"
    intact = PACKED[packed]("".join(f"{number} trams\n" for number in range(9999)).encode())
    for content in (intact[:-6], intact[:3000], intact + b"and more"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"prompts\.source\.path: '.*prompts\.txt': not readable \(\w"):
            read("text", path)


@pytest.mark.parametrize("packed", ["gzip", "zstd"])
def test_a_compressed_file_is_not_unpacked_beyond_its_limits(tmp_path, monkeypatch, packed):
    path = tmp_path / "prompts.txt"
    path.write_bytes(PACKED[packed](b"x" * (text_files.MAX_LINE + 1)))
    with pytest.raises(ConfigError, match=r"prompts\.txt, line 1: a line may have 16,777,216 bytes"):
        read("text", path)
    path.write_bytes(PACKED[packed](b"a tram\n" * 1000))
    monkeypatch.setattr(text_files, "MAX_UNPACKED", 700)
    with pytest.raises(ConfigError, match=r"line 101: .*the \(unpacked\) file 700; split it"):
        read("text", path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("utf-16-le", "UTF-16LE"),
        ("utf-16-be", "UTF-16BE"),
        ("utf-16", "UTF-16"),
        ("utf-32-le", "UTF-32LE"),
        ("utf-32-be", "UTF-32BE"),
        ("utf-32", "UTF-32"),
    ],
)
@pytest.mark.parametrize("text", ["a red dog runs over the beach", "夜の電車 (Токио)"])
def test_a_text_file_in_utf_16_or_32_is_refused_by_name(tmp_path, kind, codec, name, text):
    path = tmp_path / "prompts.txt"
    path.write_bytes(KINDS[kind].replace(TEXTS[0], text).replace("\\u", "").encode(codec))
    with pytest.raises(ConfigError, match=rf"prompts\.txt.* (text in|with iconv -f) {name}\b"):
        read(kind, path)


def test_lines_in_utf_16_after_others_are_refused(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"a tram in the rain\n" * 9999 + "a dog at night\r\n".encode("utf-16-le") * 9)
    with pytest.raises(ConfigError, match=r"text:prompts\.txt: row \d+ and those before it are full of NUL"):
        read("text", path)


def test_a_parquet_file_of_texts_that_were_decoded_wrongly_is_refused(tmp_path):
    texts = [text.encode("utf-16-le").decode("latin-1") for text in [TEXTS[0]] * 5]
    pq.write_table(pa.table({"prompt": texts}), tmp_path / "p.parquet")
    with pytest.raises(ConfigError, match=r"row 2 and those before it are full of NUL"):
        read("parquet", tmp_path / "p.parquet")


def test_single_nul_characters_are_accepted(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a tram\0 in the rain\n\0\0\0\0\na bus\0\n" + "a boat on a quiet lake\n" * 9)
    assert len(read("text", path)) == 12


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n", "a Git LFS pointer; fetch the file"),
        (b"\n<!DOCTYPE html>\n<html><title>403</title></html>\n", "an HTML page, probably from a failed download"),
        (b"PK\x03\x04" + bytes(99), "a ZIP archive or a spreadsheet; unpack it"),
        (b"BZh91AY&SY" + bytes(99), "compressed with bzip2; unpack it"),
        (b"PAR1" + bytes(99), "a Parquet file; prompts.source.kind: parquet"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_not_text_is_named(tmp_path, kind, content, what):
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"prompts\.source\.path: {path}: the file is {what}"):
        read(kind, path)


def test_a_file_that_is_not_parquet_is_named(tmp_path):
    path = tmp_path / "p.parquet"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n")
    with pytest.raises(ConfigError, match=r"p\.parquet: the file is a Git LFS pointer"):
        read("parquet", path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_every_kind_of_line_end_is_read(tmp_path, kind, end):
    path = tmp_path / "prompts.txt"
    path.write_bytes(KINDS[kind].replace("\n", end).encode())
    assert read(kind, path) == TEXTS


def test_a_csv_field_may_be_as_long_as_a_line(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text('note,prompt\n"' + "y" * 1_200_000 + '",a tram\n')
    assert read("csv", path) == ["a tram"]
