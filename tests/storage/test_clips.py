"""Clips of a shard in one tar file: reading, resuming, and the cost of damage."""

import io
import shutil
import tarfile

import pytest

from tests.conftest import small_run
from videodpo.storage.clips import file_of, read_clip, write_tar
from videodpo.storage.manifests import Damaged
from videodpo.storage.tables import read_shards, read_table, shard_path
from videodpo.tools.verify import verify


def videos(run):
    return read_shards(run.round_folder / "videos")


@pytest.fixture(scope="module")
def packed(random_model, stages, tmp_path_factory):
    """The small run up to its pairs, with clips in tar files."""
    run = stages(small_run(random_model, tmp_path_factory.mktemp("packed"), clip_storage="tar"))
    run.until_pairs()
    return run


@pytest.fixture
def tar(packed, random_model, stages, tmp_path):
    packed.copy(tmp_path)
    return stages(small_run(random_model, tmp_path, clip_storage="tar"))


@pytest.fixture
def sampled(monkeypatch):
    """Seeds of all clips that are sampled from now on."""
    from videodpo.models.wan import WanModel

    seeds, sample = [], WanModel.sample

    def counted(self, text, wanted, *args):
        seeds.extend(wanted)
        return sample(self, text, wanted, *args)

    monkeypatch.setattr(WanModel, "sample", counted)
    return seeds


def test_a_shards_clips_are_in_one_standard_tar_file(paired, packed):
    table, expected = videos(packed), videos(paired)
    assert table.drop(columns="path").equals(expected.drop(columns="path"))
    clips = packed.round_folder / "videos" / "clips"
    assert {path.name for path in clips.iterdir()} == {"shard-00000.tar"}
    with tarfile.open(clips / "shard-00000.tar") as archive:
        assert archive.getnames() == [f"{video_id}.mp4" for video_id in table["video_id"]]
        for alone, inside in zip(expected.itertuples(), table.itertuples(), strict=True):
            content = (paired.folder / alone.path).read_bytes()
            assert archive.extractfile(f"{inside.video_id}.mp4").read() == content
            assert read_clip(packed.folder / inside.path, inside.sha256) == content


def test_stages_give_the_same_results_for_both_storages(paired, packed):
    for name in ("omniscore", "pairs"):
        one, other = (read_table(run.round_folder / f"{name}.parquet") for run in (paired, packed))
        assert one.equals(other)


def test_a_re_run_job_samples_nothing_and_writes_the_same_bytes(tar, sampled):
    place = tar.round_folder / "videos"
    kept = [shard_path(place, 0), place / "clips" / "shard-00000.tar"]
    before = [path.read_bytes() for path in kept]
    kept[0].unlink()
    tar.generate()
    assert [path.read_bytes() for path in kept] == before
    assert sampled == []


def test_a_damaged_clip_is_found_and_refused_and_costs_only_its_batch(tar, sampled):
    shutil.rmtree(tar.round_folder / "scores")
    table = videos(tar)
    victim = table.iloc[5]
    file, expected = file_of(tar.folder / victim["path"]), (tar.folder / victim["path"])
    good = file.read_bytes()
    start = int(expected.name.partition("#")[2].partition("+")[0])
    file.write_bytes(good[: start + 9] + bytes([good[start + 9] ^ 1]) + good[start + 10 :])
    with pytest.raises(Damaged, match=r"shard-00000\.tar#\d+\+\d+: sha256 differs from the videos table; `videodpo"):
        tar.score()
    (finding,) = verify(tar.folder, discard_damaged=True).findings
    assert (finding.path, finding.kind) == (file.relative_to(tar.folder), "damaged")
    assert file.exists()
    tar.generate()
    assert sampled == table["seed"].iloc[4:8].tolist()
    assert file.read_bytes() == good
    assert verify(tar.folder).findings == []


def test_a_tar_file_of_other_clips_is_detected_by_the_table(tar):
    file = tar.round_folder / "videos" / "clips" / "shard-00000.tar"
    with tarfile.open(file) as archive:
        contents = [(name, archive.extractfile(name).read()) for name in archive.getnames()]
    write_tar(file, [(name, content[::-1]) for name, content in contents])
    (finding,) = verify(tar.folder).findings
    assert finding.path == file.relative_to(tar.folder)
    assert finding.kind == "damaged"
    file.unlink()
    (finding,) = verify(tar.folder).findings
    assert (finding.path, finding.kind) == (file.relative_to(tar.folder), "missing")


@pytest.mark.parametrize("change", [("files", "tar"), ("tar", "files")])
def test_another_storage_re_samples_no_clip(paired, packed, random_model, stages, sampled, change, tmp_path):
    first = stages(small_run(random_model, tmp_path, clip_storage=change[0]))
    second = stages(small_run(random_model, tmp_path, clip_storage=change[1]))
    (paired if change[0] == "files" else packed).copy(tmp_path)
    before, number = videos(first), len(sampled)
    second.snapshot("execution")
    shard_path(first.round_folder / "videos", 0).unlink()
    second.generate()
    assert len(sampled) == number
    after = videos(second)
    assert after.drop(columns="path").equals(before.drop(columns="path"))
    assert all(read_clip(second.folder / row.path, row.sha256) for row in after.itertuples())
    clips = second.round_folder / "videos" / "clips"
    kinds = {path.suffix for path in clips.rglob("*") if path.is_file() and not path.name.startswith(".")}
    assert kinds == ({".tar"} if change[1] == "tar" else {".mp4"})
    assert verify(second.folder).findings == []


@pytest.mark.parametrize("sizes", [[], [0], [1, 512, 513, 100_000]])
def test_the_offset_of_each_clip_in_the_tar_file_is_returned(tmp_path, sizes):
    contents = [bytes([number]) * size for number, size in enumerate(sizes)]
    names = [f"{'n' * 150 * number}.mp4" for number in range(len(sizes))]  # long names need another header
    places = write_tar(tmp_path / "x.tar", zip(names, contents, strict=True))
    stored = (tmp_path / "x.tar").read_bytes()
    for place, content in zip(places, contents, strict=True):
        start, size = map(int, place[1:].split("+"))
        assert stored[start : start + size] == content
    with tarfile.open(fileobj=io.BytesIO(stored)) as archive:
        assert archive.getnames() == names
