"""Prompt sources that are refused before anything runs."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from videodpo.config import ConfigError
from videodpo.stages.prompts.check import check_prompts

from .conftest import prompts_of


def _check(kind, path=None, **keys):
    prompts = prompts_of(kind, path, **keys)
    check_prompts(prompts)


@pytest.fixture
def three(tmp_path):
    path = tmp_path / "p.csv"
    path.write_text("prompt\na tram\na bus\na boat\n")
    return path


def test_a_source_with_just_enough_rows_passes(three):
    _check("csv", three, num_train=2, num_heldout=1)


def test_an_impossible_split_is_refused(three):
    with pytest.raises(
        ConfigError, match=r"prompts\.num_heldout: 1 held-out and 3 for training .* make 4, csv:p.csv has 3"
    ):
        _check("csv", three, num_train=3, num_heldout=1)


def test_heldout_prompts_must_leave_one_for_training(three):
    with pytest.raises(ConfigError, match=r"prompts\.num_heldout: 3 held-out and at least one"):
        _check("csv", three, num_heldout=3)


def test_parquet_rows_are_counted(tmp_path):
    pq.write_table(pa.table({"prompt": ["a", "b"]}), tmp_path / "p.parquet")
    with pytest.raises(ConfigError, match=r"has 2"):
        _check("parquet", tmp_path / "p.parquet", num_train=3)


def test_clips_are_counted_by_prompt(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text("path,prompt\n1.mp4,a tram\n2.mp4,a tram\n")
    with pytest.raises(ConfigError, match=r"has 1"):
        _check("clips", path, num_train=2)


@pytest.fixture
def listed(tmp_path):
    """A list of 150 clips of one prompt; only the last 140 exist."""
    (tmp_path / "list").mkdir()
    for number in range(10, 150):
        (tmp_path / "list" / f"{number}.mp4").touch()
    path = tmp_path / "list" / "clips.csv"
    path.write_text("path,prompt\n" + "".join(f"{number}.mp4,a tram\n" for number in range(150)))
    return path


def test_the_first_hundred_clips_must_exist(listed):
    first = ", ".join(str(listed.parent / f"{number}.mp4") for number in range(3))
    with pytest.raises(
        ConfigError, match=rf"clips\.csv: 10 of the first 100 clips are missing: {first}, \.\.\.; paths are relative"
    ):
        _check("clips", listed)


def test_as_many_clips_may_be_missing_as_may_fail(listed):
    prompts = prompts_of("clips", listed)
    check_prompts(prompts, max_missing=0.1)
    with pytest.raises(ConfigError, match=r"10 of the first 100 clips are missing"):
        check_prompts(prompts, max_missing=0.09)


@pytest.mark.parametrize("path", ["https://example.org/b.mp4", "C:\\clips\\c.mp4", "~/d.mp4", "clips/"])
def test_a_path_that_is_not_a_file_is_shown_in_full(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    Path("clips").mkdir()
    Path("clips.csv").write_text(f"path,prompt\n{path},a tram\n")
    with pytest.raises(ConfigError) as refused:
        _check("clips", "clips.csv")
    assert f"1 of the first 1 clips are missing: {tmp_path / path};" in str(refused.value)


def test_a_row_without_a_path_is_refused(tmp_path):
    (tmp_path / "clips.csv").write_text("path,prompt\n,a tram\n")
    with pytest.raises(ConfigError, match=r"clips\.csv: row 0 has no path"):
        _check("clips", tmp_path / "clips.csv")


def test_the_world_is_counted():
    with pytest.raises(ConfigError, match=r"world has 1440"):
        _check("demo_world", num_train=1440, num_heldout=1)


@pytest.mark.parametrize("kind", ["text", "jsonl", "csv", "parquet", "vidprom", "clips", "huggingface"])
def test_a_missing_file_is_refused(tmp_path, kind):
    with pytest.raises(ConfigError, match=r"prompts\.source\.path: "):
        _check(kind, tmp_path / "none.csv")


def test_a_folder_is_not_a_text_file(tmp_path):
    with pytest.raises(ConfigError, match=r"prompts\.source\.path: .*not readable"):
        _check("text", tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "p.txt").write_text("\n \n")
    with pytest.raises(ConfigError, match=r"prompts\.source\.path: .*has no prompts"):
        _check("text", tmp_path / "p.txt")


def test_a_missing_column_is_refused(three):
    with pytest.raises(ConfigError, match=r"prompts\.source\.column: no 'caption' in p.csv; it has: 'prompt'"):
        _check("csv", three, column="caption")


def test_a_text_file_cannot_be_on_the_hub():
    with pytest.raises(
        ConfigError, match=r"prompts\.source\.path: 'hub:a/b' is only for the kinds vidprom, huggingface and pairs"
    ):
        _check("text", "hub:a/b")


def test_hub_sources_are_not_checked():
    _check("huggingface", f"hub:nobody/nothing@{40 * '0'}", num_heldout=10**9)


def test_an_empty_data_set_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"the folder is empty"):
        _check("huggingface", tmp_path)


def test_only_as_many_rows_as_needed_are_read(tmp_path):
    path = tmp_path / "p.txt"
    path.write_bytes(b"a tram\n" * 3 + b"\xff\n")
    _check("text", path, num_train=3)
