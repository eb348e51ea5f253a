"""Every kind of prompt source that needs no data set library."""

import csv
import json
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from videodpo.demo_world.captions import parse_caption
from videodpo.stages.prompts.sources import TOXICITY, read_rows

from .conftest import prompts_of


def _texts(kind, path=None, seed=0, **keys):
    return [row.text for row in read_rows(prompts_of(kind, path, **keys).source, seed)]


def _csv(path, header, *rows):
    with open(path, "w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *rows])
    return path


def _vidprom(path, *rows):
    return _csv(path, ["uuid", "prompt", "time", *TOXICITY], *rows)


def test_text_has_one_prompt_per_line_without_blank_lines(tmp_path):
    path = tmp_path / "p.txt"
    path.write_bytes(b"\xef\xbb\xbfa red tram\r\n\n  \na blue bus")
    rows = list(read_rows(prompts_of("text", path).source, 0))
    assert [(row.row, row.text) for row in rows] == [(0, "a red tram"), (3, "a blue bus")]


def test_jsonl_reads_the_named_key(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"id": 1, "caption": "a red tram"}\n\n{"caption": "a blue bus", "id": 2}\n')
    assert _texts("jsonl", path, column="caption") == ["a red tram", "a blue bus"]


def test_csv_keeps_commas_quotes_and_line_ends_inside_a_prompt(tmp_path):
    texts = ["a tram, red", 'a "red" tram', "a tram\nin rain", "夜の電車"]
    path = _csv(tmp_path / "p.csv", ["id", "prompt"], *([i, text] for i, text in enumerate(texts)))
    assert _texts("csv", path) == texts


def test_parquet_reads_the_named_column(tmp_path):
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"n": [1, 2], "caption": ["a red tram", None]}), path)
    assert _texts("parquet", path, column="caption") == ["a red tram", None]


def test_vidprom_drops_rows_by_their_worst_toxicity(tmp_path, run):
    calm, rude, missing = [0.01] * 6, [0.01] * 5 + [0.9], [0.01] * 5 + [""]
    path = _vidprom(
        tmp_path / "v.csv",
        ["u1", "a red tram", "t", *calm],
        ["u2", "a rude tram", "t", *rude],
        ["u3", "a blue bus", "t", *missing],
    )
    prompts, dropped = run("vidprom", path)
    assert prompts["prompt"].tolist() == ["a red tram"]
    assert dropped[["row", "step", "reason"]].values.tolist() == [
        [1, "toxicity", "0.9 is not at most 0.2"],
        [2, "toxicity", "nan is not at most 0.2"],
    ]


def test_vidprom_keeps_a_row_at_the_limit(tmp_path):
    path = _vidprom(tmp_path / "v.csv", ["u1", "a red tram", "t", *[0.2] * 6])
    (row,) = read_rows(prompts_of("vidprom", path).source, 0)
    assert row.toxicity == 0.2


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_list_of_clips_gives_each_prompt_once(tmp_path, suffix):
    rows = [("a/1.mp4", "a red tram"), ("a/2.mp4", "a red tram"), ("b/1.mp4", "a blue bus")]
    path = tmp_path / f"clips.{suffix}"
    if suffix == "csv":
        _csv(path, ["path", "prompt"], *rows)
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps({"path": p, "prompt": t}) + "\n" for p, t in rows))
    else:
        pq.write_table(pa.table({"path": [p for p, _ in rows], "prompt": [t for _, t in rows]}), path)
    assert _texts("clips", path) == ["a red tram", "a blue bus"]


def test_clips_need_a_path_column(tmp_path):
    path = _csv(tmp_path / "clips.csv", ["file", "prompt"], ["1.mp4", "a red tram"])
    with pytest.raises(ValueError, match=r"no 'path' in clips.csv; it has: 'file', 'prompt'"):
        _texts("clips", path)


def test_half_of_the_worlds_scenes_have_two_objects():
    scenes = [parse_caption(text) for text in _texts("demo_world")]
    assert len(scenes) == 1440
    assert sum(scene.other_shape is None for scene in scenes) == 720


def test_the_seed_chooses_the_worlds_two_object_scenes():
    assert _texts("demo_world", seed=1) == _texts("demo_world", seed=1)
    assert _texts("demo_world", seed=1) != _texts("demo_world", seed=2)


def test_no_scene_of_the_world_is_dropped_without_near_duplicate_search(run):
    prompts, dropped = run("demo_world", num_heldout=100, near_duplicate_threshold=1.0)
    assert (len(prompts), len(dropped)) == (1440, 0)


@pytest.mark.parametrize(
    ("kind", "name", "content", "message"),
    [
        ("jsonl", "p.jsonl", b'{"prompt": "a"}\n{"prompt": \n', r"p.jsonl, line 2: not valid JSON"),
        ("jsonl", "p.jsonl", b'"a red tram"\n', r"p.jsonl, line 1: is a str; each line must hold one object"),
        ("jsonl", "p.jsonl", b'{"prompt": 7}\n', r"'prompt' holds 7 in row 0 of jsonl:p.jsonl; text is needed"),
        ("text", "p.txt", "a tram\nun caf\u00e9\n".encode("latin-1"), r"p.txt, line 2: not UTF-8"),
        (  # an unquoted comma must not truncate a prompt silently
            "csv",
            "p.csv",
            b"id,prompt\n1,a tram, red\n",
            r"p.csv, line 2: 3 fields where the header has 2; put quotes",
        ),
        ("csv", "p.csv", b"prompt,prompt\n1,a tram\n", r"p.csv has 2 columns 'prompt'; rename one"),
        # an open quote must not swallow the rest of the file silently
        ("csv", "p.csv", b'id,prompt\n1,"a tram\n2,a bus\n', r"not valid CSV"),
        ("parquet", "p.parquet", b"not a table", r"not readable as Parquet"),
    ],
)
def test_malformed_source_is_refused_with_its_location(tmp_path, kind, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        _texts(kind, path)


def test_toxicity_that_is_not_a_number_is_an_error(tmp_path):
    path = _vidprom(tmp_path / "v.csv", ["u1", "a red tram", "t", "low", *[0.1] * 5])
    with pytest.raises(ValueError, match=r"toxicity is 'low' in row 0"):
        _texts("vidprom", path)


def test_reading_sources_imports_nothing_heavy():
    code = (
        "import sys, videodpo.stages.prompts.check\n"
        "heavy = {'pandas', 'pyarrow', 'torch', 'datasets', 'numpy', 'datasketch'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
