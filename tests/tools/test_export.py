"""Exported pairs: the same bytes again, readable by others, and importable."""

import json
import tarfile

import pytest
import yaml

from tests.conftest import small_run
from videodpo.cli import main
from videodpo.config import Source
from videodpo.stages.generate.import_clips import import_shard
from videodpo.stages.pairs.stage import select_pairs
from videodpo.stages.prompts.pair_sources import read_pairs
from videodpo.storage.files import sha256_of
from videodpo.storage.tables import read_rows, read_shards, read_table

FORMATS = ("videodpo", "datasets", "webdataset")


@pytest.fixture
def export(tmp_path, capsys):
    """Function that exports a run and returns the new folder."""

    def run(folder, name, out):
        assert main(["export", str(folder), "--format", name, "--out", str(tmp_path / out)]) == 0
        pairs = len(read_table(folder / "round1" / "pairs.parquet"))
        assert capsys.readouterr().out == f"{tmp_path / out}: {pairs} pairs in the format {name}\n"
        return tmp_path / out

    return run


@pytest.fixture
def imported(stages, random_model, tmp_path):
    """Function that imports a folder of pairs, up to the pairs table."""

    def run(folder):
        prompts = {"source": {"kind": "pairs", "path": str(folder)}, "num_train": None, "num_heldout": 0}
        prompts["near_duplicate_threshold"] = 1.0
        made = stages(small_run(random_model, tmp_path / "again", prompts=prompts))
        made.prompts()
        import_shard(made.snapshot("generate"), 1, 0)
        select_pairs(made.snapshot("pairs"), made.round_folder)
        return made

    return run


def digests(folder):
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_pairs_give_the_same_bytes(export, paired, name):
    assert digests(export(paired.folder, name, "one")) == digests(export(paired.folder, name, "two"))


def test_videodpo_format_is_the_released_one(export, paired):
    out = export(paired.folder, "videodpo", "out")
    pairs, clips = (json.loads((out / name).read_text()) for name in ("pair.json", "metadata.json"))
    table = read_rows(paired.round_folder / "pairs.parquet")
    prompts = {row["prompt_id"]: row["prompt"] for row in read_rows(paired.folder / "prompts.parquet")}
    videos = read_shards(paired.round_folder / "videos").set_index("video_id")
    assert len(pairs) == len(table)
    for pair, row in zip(pairs, table, strict=True):
        assert set(pair) == {"video1", "video2", "frame_caption", "label", "score"}
        assert (pair["frame_caption"], pair["label"]) == (prompts[row["prompt_id"]], 0)
        assert pair["score"] == row["probability"]
        for number, side, place in ((pair["video1"], "winner", "winvideos"), (pair["video2"], "loser", "losevideos")):
            clip = clips[number]
            assert clip["basic"] == {"clip_path": f"{place}/{number // 2:06d}.mp4", "clip_duration": 5 / 8}
            assert clip["misc"] == {"frame_caption": [prompts[row["prompt_id"]]]}
            assert sha256_of(out / clip["basic"]["clip_path"]) == videos.loc[row[f"{side}_id"], "sha256"]


def test_an_imported_export_in_the_videodpo_format_is_exported_with_the_same_bytes(export, imported, paired):
    first = export(paired.folder, "videodpo", "first")
    run = imported(first)
    assert digests(export(run.folder, "videodpo", "second")) == digests(first)
    weights = read_table(run.round_folder / "pairs.parquet")["weight"]
    own = read_table(paired.round_folder / "pairs.parquet")
    expected = (own["probability"].max() / own["probability"]) ** 0.72
    assert weights.tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("name", ["datasets", "webdataset"])
def test_other_exports_are_imported_with_clips_weights_and_labels(export, imported, paired, name, caplog):
    run = imported(export(paired.folder, name, "out"))
    assert seen(run) == seen(paired)
    assert "off-policy" not in caplog.text  # the export names the run's own model


def seen(run):
    """Weight, label and SHA-256 of both clips of each pair."""
    digest = read_shards(run.round_folder / "videos").set_index("video_id")["sha256"]
    rows = read_rows(run.round_folder / "pairs.parquet")
    sides = ("winner_id", "loser_id")
    return [(row["weight"], row["label_source"], *(digest[row[side]] for side in sides)) for row in rows]


def test_datasets_reads_the_folder(export, paired):
    import datasets

    out = export(paired.folder, "datasets", "out")
    data = datasets.load_dataset(str(out), split="train")
    table = read_table(paired.round_folder / "pairs.parquet")
    assert list(data["score_winner"]) == table["score_winner"].tolist()
    assert all((out / path).is_file() for path in [*data["winner"], *data["loser"]])


def test_the_data_card_has_counts_settings_and_licences(export, paired):
    text = (export(paired.folder, "datasets", "out") / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    assert head["configs"] == [{"config_name": "default", "data_files": "pairs.parquet"}]
    count = len(read_table(paired.round_folder / "pairs.parquet"))
    assert f"| pairs | {count} |" in text
    assert f"| labels | {count} omniscore |" in text
    assert "| sampling | 3 samples per prompt, 2 steps, guidance 5 |" in text
    assert "| prompts (demo_world) | Apache-2.0 |" in text
    assert f"| model `{paired.config.model.weights}` | see its model card |" in text


def test_a_sample_of_a_shard_is_a_json_object_and_two_clips(export, paired):
    with tarfile.open(export(paired.folder, "webdataset", "out") / "pairs-000000.tar") as tar:
        names = tar.getnames()[:3]
        values = json.load(tar.extractfile(names[0]))
    assert names == ["00000000.json", "00000000.winner.mp4", "00000000.loser.mp4"]
    row = read_rows(paired.round_folder / "pairs.parquet")[0]
    assert values["weight"] == row["weight"]
    assert values["winner_model"] == f"wan {paired.config.model.weights}"


def test_a_used_folder_is_refused(paired, tmp_path, capsys):
    assert main(["export", str(paired.folder), "--format", "videodpo", "--out", str(tmp_path)]) == 1
    assert f"--out: {tmp_path} exists; name a new folder" in capsys.readouterr().err


def test_a_missing_clip_stops_the_export_and_leaves_nothing_behind(paired, tmp_path, capsys):
    paired.copy(tmp_path)
    run = tmp_path / "small"
    loser = read_rows(run / "round1" / "pairs.parquet")[-1]["loser_id"]
    (run / "round1" / "videos" / "clips" / "shard-00000" / f"{loser}.mp4").unlink()
    for name in FORMATS:
        assert main(["export", str(run), "--format", name, "--out", str(tmp_path / "out")]) == 1
        assert f"{loser}.mp4: it is missing" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir() if "cache" not in path.name) == ["small"]


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--format", "datasets", "--out", str(tmp_path / "out")]) == 1
    assert "pairs.parquet: not a readable table" in capsys.readouterr().err


def test_a_broken_shard_is_refused(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"not a tar file" * 100)
    with pytest.raises(ValueError, match=r"a\.tar: not readable as a tar file"):
        list(read_pairs(Source(kind="pairs", path=str(tmp_path))))
