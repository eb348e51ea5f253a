"""Data sets in Hugging Face's formats, offline."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from videodpo.stages.prompts.data_sets import read_dataset
from videodpo.stages.prompts.sources import TOXICITY

from .conftest import prompts_of


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tmp_path):
    data = tmp_path / "trams"
    data.mkdir()
    pq.write_table(pa.table({"caption": ["a red tram", None, "a blue bus"]}), data / "train-00000.parquet")
    pq.write_table(pa.table({"caption": ["a slow boat"]}), data / "test-00000.parquet")
    return data


def test_a_folder_of_data_files_is_a_data_set(run, folder):
    prompts, dropped = run("huggingface", folder, column="caption")
    assert sorted(prompts["prompt"]) == ["a blue bus", "a red tram"]
    assert set(prompts["source"]) == {"huggingface:trams"}
    assert dropped["step"].tolist() == ["null"]


def test_the_named_split_is_read(run, folder):
    prompts, _ = run("huggingface", folder, column="caption", split="test")
    assert prompts["prompt"].tolist() == ["a slow boat"]


def test_a_data_set_that_was_saved_to_disk_is_read(run, tmp_path):
    import datasets

    saved = datasets.DatasetDict(train=datasets.Dataset.from_dict({"prompt": ["a red tram"]}))
    saved.save_to_disk(tmp_path / "saved")
    prompts, _ = run("huggingface", tmp_path / "saved")
    assert prompts["prompt"].tolist() == ["a red tram"]


def test_an_unknown_split_of_a_saved_data_set_is_refused_with_the_existing_ones(run, tmp_path):
    import datasets

    datasets.DatasetDict(train=datasets.Dataset.from_dict({"prompt": ["a"]})).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"prompts\.source\.split: 'test' is not a split .*: train"):
        run("huggingface", tmp_path / "saved", split="test")


def test_an_unknown_split_of_a_folder_is_an_error(run, folder):
    with pytest.raises(ValueError, match=r"prompts\.source\.path: .*split 'validation' cannot be loaded"):
        run("huggingface", folder, split="validation")


def test_a_missing_column_is_refused_with_the_existing_ones(run, folder):
    with pytest.raises(ValueError, match=r"prompts\.source\.column: no 'prompt' .*'caption'"):
        run("huggingface", folder)


def test_a_data_set_that_needs_its_own_code_is_refused(run, folder):
    (folder / "trams.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ValueError, match=r"prompts\.source\.path: .*scripts are no longer supported"):
        run("huggingface", folder, column="caption")


def test_a_damaged_data_file_is_an_error(run, folder):
    (folder / "train-00000.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(ValueError, match=r"prompts\.source\.path: .*cannot be loaded"):
        run("huggingface", folder, column="caption")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("train.csv", "prompt\nun café\n".encode("latin-1"), r"'utf-8' codec can't decode byte 0xe9"),
        ("train.txt", "un café\n".encode("latin-1"), r"'utf-8' codec can't decode byte 0xe9"),
        ("train.csv", b"prompt\na\nb,c,d\n", r"Error tokenizing data.*line 3"),
        ("train.jsonl", b'{"prompt": "a"}\n{"prompt": \n', r"JSON parse error.*row 1"),
        ("train.parquet", b"PAR1 cut", r"Parquet magic bytes not found"),
        ("train.parquet", b"version https://git-lfs.github.com/spec/v1\n", r"the file is a Git LFS pointer"),
        ("train.csv", "prompt\na tram\na bus\n".encode("utf-16-le"), r"the file is text in UTF-16LE; convert it"),
    ],
)
def test_an_unreadable_file_is_named_with_the_cause(run, tmp_path, name, content, said):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"prompts\.source\.path: .*{tmp_path / 'set' / name}: {said}"):
        run("huggingface", tmp_path / "set")


def test_columns_of_a_wrong_type_are_named(run, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.csv").write_text("prompt\na tram\n")
    (tmp_path / "set" / "b.csv").write_text("prompt,note\na bus,x\n")
    with pytest.raises(ValueError, match=r"was different: prompt: .* vs prompt: .* note: "):
        run("huggingface", tmp_path / "set")


@pytest.fixture
def two_configurations(tmp_path):
    data = tmp_path / "two"
    data.mkdir()
    (data / "README.md").write_text(
        "---\nconfigs:\n- config_name: one\n  data_files: a.jsonl\n- config_name: two\n  data_files: b.jsonl\n---\n"
    )
    (data / "a.jsonl").write_text('{"prompt": "a red tram"}\n')
    (data / "b.jsonl").write_text('{"prompt": "a blue bus"}\n')
    return data


def test_the_named_configuration_is_read(run, two_configurations):
    prompts, _ = run("huggingface", two_configurations, name="two")
    assert prompts["prompt"].tolist() == ["a blue bus"]


@pytest.mark.parametrize("name", [None, "three"])
def test_a_missing_choice_of_a_configuration_is_refused_with_the_key(run, two_configurations, name):
    with pytest.raises(ValueError, match=r"\['one', 'two'\].*; prompts\.source\.name chooses a configuration"):
        run("huggingface", two_configurations, name=name)


def test_a_data_set_that_was_saved_to_disk_has_no_configurations(run, tmp_path):
    import datasets

    datasets.DatasetDict(train=datasets.Dataset.from_dict({"prompt": ["a"]})).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r"prompts\.source\.name: 'one': .* no configurations; leave the key out"):
        run("huggingface", tmp_path / "saved", name="one")


def test_a_configuration_of_another_kind_is_refused():
    with pytest.raises(ValueError, match=r"'one' has no effect on the kind 'csv'; leave it out"):
        prompts_of("csv", "p.csv", name="one")


def test_a_hub_data_set_that_cannot_be_reached_is_an_error(run):
    with pytest.raises(ValueError, match=r"prompts\.source\.path: hub:nobody/nothing"):
        run("huggingface", f"hub:nobody/nothing@{40 * '0'}")


def test_one_csv_of_a_repository_is_read_like_vidprom(tmp_path):
    header = ",".join(["uuid", "prompt", "time", *TOXICITY])
    (tmp_path / "VidProM_unique.csv").write_text(header + '\nu1,"a tram, red",t,0.1,0.1,0.1,0.1,0.1,0.3\n')
    (tmp_path / "other.csv").write_text("x\n1\n")
    source = prompts_of("vidprom", tmp_path).source
    records = read_dataset(str(source.path), "train", ("prompt", *TOXICITY), data_files="VidProM_unique.csv")
    assert list(records) == [(0, ("a tram, red", 0.1, 0.1, 0.1, 0.1, 0.1, 0.3))]
