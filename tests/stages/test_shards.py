"""A finished shard that is re-run: only batches with damaged or missing files are sampled."""

from __future__ import annotations

import pytest

from videodpo.storage.manifests import manifest_path
from videodpo.storage.tables import read_shards, shard_path

TABLE, LATENTS, TEXTS = "shard-00000.parquet", "latents/shard-00000.safetensors", "texts/shard-00000.safetensors"


@pytest.fixture(scope="module")
def finished(stages, random_model, tmp_path_factory):
    from tests.conftest import small_run

    run = stages(small_run(random_model, tmp_path_factory.mktemp("shards") / "results"))
    run.prompts()
    run.generate()
    return run


@pytest.fixture
def sampled(monkeypatch) -> list[int]:
    """List that grows by one for every sampled batch."""
    from videodpo.models.wan import WanModel

    batches: list[int] = []
    sample = WanModel.sample
    monkeypatch.setattr(WanModel, "sample", lambda self, *args: batches.append(1) or sample(self, *args))
    return batches


def take_away(run) -> dict[str, bytes]:
    """Remove a job's outputs, as Snakemake does before a re-run; return their contents."""
    videos = run.round_folder / "videos"
    before = {name: (videos / name).read_bytes() for name in (TABLE, LATENTS, TEXTS)}
    for name in before:
        (videos / name).unlink()
    return before


def make_again(run, before) -> None:
    run.generate()
    videos = run.round_folder / "videos"
    assert {name: (videos / name).read_bytes() for name in before} == before


def test_nothing_is_sampled_if_only_the_published_files_are_missing(finished, sampled):
    make_again(finished, take_away(finished))
    assert sampled == []


def test_a_damaged_clip_costs_its_batch(finished, sampled):
    clip = finished.folder / read_shards(finished.round_folder / "videos")["path"].iloc[5]
    intact = clip.read_bytes()
    clip.write_bytes(intact[:-1])
    make_again(finished, take_away(finished))
    assert sampled == [1]
    assert clip.read_bytes() == intact


def test_missing_latents_cost_the_shard(finished, sampled):
    before = take_away(finished)
    (finished.round_folder / "videos" / "work" / "shard-00000" / "latents.safetensors").unlink()
    make_again(finished, before)
    assert sampled == [1] * 5


def test_a_damaged_progress_log_is_ignored(finished, sampled):
    log = finished.round_folder / "videos" / "work" / "shard-00000" / "progress.jsonl"
    log.write_bytes(b"x" + log.read_bytes()[1:])  # not a digit of a digest
    make_again(finished, take_away(finished))
    assert sampled == [1] * 5


def test_other_prompts_reuse_nothing(finished, stages, sampled):
    other = stages(finished.config.model_dump() | {"seed": 4})
    other.prompts()
    take_away(finished)
    other.generate()
    assert sampled == [1] * 5
    finished.prompts()
    finished.generate()


def test_a_file_system_without_hard_links_keeps_nothing_and_says_so(finished, monkeypatch, caplog):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("videodpo.stages.generate.shards.os.link", refuse)
    before = take_away(finished)
    make_again(finished, before)
    assert "no hard links" in caplog.text
    videos = finished.round_folder / "videos"
    assert not (videos / "work" / "shard-00000" / "latents.safetensors").exists()
    assert manifest_path(shard_path(videos, 0)).exists()
