"""The stage score on tiny real clips: failed rows, resuming, provenance, single files."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_execution
from videodpo.config import ConfigError
from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.render import FPS, NUM_FRAMES, SIZE, render
from videodpo.runtime import registry
from videodpo.runtime.locks import exclusive
from videodpo.runtime.settings import ScoreSettings
from videodpo.runtime.snapshot import Snapshot, load_snapshot, write_snapshot
from videodpo.scorers.base import Clip
from videodpo.stages.score import collect_shard, score_files, score_shard, stage
from videodpo.stages.score.collect import _label
from videodpo.stages.score.store import Column
from videodpo.storage.files import sha256_of
from videodpo.storage.manifests import Damaged
from videodpo.storage.schemas import PROMPTS, SCORES, VIDEOS
from videodpo.storage.tables import read_metadata, read_rows, read_table, write_table
from videodpo.storage.video import read_mp4, write_mp4

NUM_CLIPS, BLOCK = 6, 2
TABLE = "scores/temporal_flickering/shard-00000.parquet"
STORE = "scores/by-clip/shard-00000.jsonl"


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder with prompts, six clips and their videos table."""
    prompts, videos = [], []
    for number in range(NUM_CLIPS):
        scene, prompt_id = random_scene(random.Random(number)), f"{number:016x}"
        path = f"clips/{number}.mp4"
        write_mp4(tmp_path / path, render(scene, random.Random(number)), FPS)
        prompts.append(
            {"prompt_id": prompt_id, "prompt": scene.caption, "source": "world", "split": "train", "position": number}
        )
        video: dict = dict.fromkeys(VIDEOS.names)
        video |= {
            "video_id": f"{prompt_id}-0",
            "prompt_id": prompt_id,
            "sample": 0,
            "seed": number,
            "status": "ok",
            "model": "none",
            "num_frames": NUM_FRAMES,
            "height": SIZE,
            "width": SIZE,
        }
        videos.append(video | {"path": path, "sha256": sha256_of(tmp_path / path)})
    write_table(tmp_path / "prompts.parquet", prompts, PROMPTS, stage="prompts", digest="p", seed=0)
    write_videos(tmp_path, videos)
    return tmp_path


def write_videos(run: Path, videos: list[dict], num_videos: int | None = None, num_shards: int = 1) -> None:
    extra = {
        "num_shards": str(num_shards),
        "shard": "0",
        "num_videos": str(num_videos or len(videos)),
        "block": str(BLOCK),
    }
    write_table(run / "videos.parquet", videos, VIDEOS, stage="generate", digest="v", seed=0, extra=extra)


def snapshot(
    run: Path,
    dimension: str = "temporal_flickering",
    *,
    allowed: float = 1.0,
    digest: str = "d",
    options: dict | None = None,
    weights: dict[str, str] | None = None,
) -> Snapshot:
    write_execution(run, max_failed_fraction=allowed)
    settings = ScoreSettings(dimension=dimension, options=options or {}, is_judge=False)
    return Snapshot("score", "test", run, 0, settings, digest, weights or {})


def score_all(run: Path, **kwargs) -> list[dict]:
    measured = snapshot(run, **kwargs)
    score_shard([measured], run / "videos.parquet", run / "scores")
    collect_shard([measured], run / "videos.parquet", run / "scores")
    return read_table(run / TABLE).to_dict("records")


def break_clip(run: Path, number: int, content: bytes, *, tell: bool = True) -> None:
    """Replace a clip's bytes; if `tell`, also its digest in the videos table, as if it had been sampled so."""
    (run / f"clips/{number}.mp4").write_bytes(content)
    if tell:
        videos = read_rows(run / "videos.parquet")
        videos[number]["sha256"] = sha256_of(run / f"clips/{number}.mp4")
        write_videos(run, videos)


def test_rows_have_the_scores_of_the_clips_in_the_order_of_the_videos(run):
    rows = score_all(run)
    scorer = registry.load("videodpo.scorers", "temporal_flickering")(None, "cpu")
    for number, row in enumerate(rows):
        frames, fps = read_mp4(run / f"clips/{number}.mp4")
        assert row["video_id"] == f"{number:016x}-0"
        assert (row["status"], row["dimension"]) == ("ok", "temporal_flickering")
        assert row["value"] == scorer.score(Clip(frames, fps, ""))
        assert row["scorer"] == "temporal_flickering v1 no-weights"


def test_table_carries_shard_and_provenance(run):
    score_all(run)
    metadata = read_metadata(run / TABLE)
    assert (metadata["stage"], metadata["num_shards"], metadata["shard"]) == ("score", "1", "0")
    assert metadata["config_digest"] == "d"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda clip: clip[:300], "2.mp4"),
        (lambda clip: b"", "empty"),
        (lambda clip: b"not a video at all\n" * 50, "2.mp4"),
    ],
    ids=["truncated", "empty", "text"],
)
def test_a_file_that_is_not_a_video_is_a_failed_row(run, spoil, said):
    break_clip(run, 2, spoil((run / "clips/2.mp4").read_bytes()))
    row = score_all(run)[2]
    assert row["status"] == "failed"
    assert np.isnan(row["value"])
    assert said in row["error"]


def test_a_missing_clip_must_be_re_made(run):
    (run / "clips/1.mp4").unlink()
    with pytest.raises(Damaged, match=r"1\.mp4: it is missing; `videodpo verify .* --discard-damaged`"):
        score_all(run)


def test_one_frame_clip_is_a_failed_row_of_a_scorer_that_compares_frames(run):
    write_mp4(run / "one.mp4", np.zeros((1, 32, 32, 3), np.uint8), FPS)
    break_clip(run, 0, (run / "one.mp4").read_bytes())
    assert "at least 2 frames" in score_all(run)[0]["error"]


def test_a_clip_that_differs_from_the_videos_table_must_be_re_made_and_is_no_failed_row(run):
    break_clip(run, 3, (run / "clips/4.mp4").read_bytes(), tell=False)
    with pytest.raises(
        Damaged, match=r"3\.mp4: sha256 differs from the videos table; `videodpo verify .* --discard-damaged`"
    ):
        score_all(run)


def test_failed_video_keeps_its_reason(run):
    videos = read_table(run / "videos.parquet").astype(object).to_dict("records")
    videos = [{key: None if value != value else value for key, value in row.items()} for row in videos]
    videos[5] |= {"status": "failed", "error": "NaN latents", "path": None, "sha256": None}
    write_videos(run, videos)
    row = score_all(run)[5]
    assert (row["status"], row["error"]) == ("failed", "NaN latents")


def test_nan_from_a_scorer_is_a_failed_row(run, nan_scorer):
    write_videos(run, read_rows(run / "videos.parquet"), num_videos=100)
    assert "nan" in score_all(run)[0]["error"]


def test_a_bug_in_a_scorer_stops_the_run(run, monkeypatch):
    kind = registry.load("videodpo.scorers", "temporal_flickering")
    monkeypatch.setattr(kind, "score", lambda self, clip: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        score_all(run)


def test_too_many_failures_stop_the_run_and_keep_the_scores(run, count_scores):
    intact = (run / "clips/2.mp4").read_bytes()
    break_clip(run, 2, intact[:300])
    with pytest.raises(RuntimeError, match=r"(?s)1 of 6 .*max_failed_fraction is 0.02.*0002-0: 2\.mp4: "):
        score_all(run, allowed=0.02)
    assert not (run / TABLE).exists()
    break_clip(run, 2, intact)
    count_scores.clear()
    assert all(row["status"] == "ok" for row in score_all(run, allowed=0.02))
    assert len(count_scores) == BLOCK


def test_the_share_of_failures_is_taken_over_all_shards(run):
    break_clip(run, 2, b"no video")
    write_videos(run, read_rows(run / "videos.parquet"), num_videos=50)
    assert [row["status"] for row in score_all(run, allowed=0.02)].count("failed") == 1


def test_a_judge_may_fail_on_every_clip(run, nan_scorer):
    write_execution(run, max_failed_fraction=0.0)
    settings = ScoreSettings(dimension="temporal_flickering", options={}, is_judge=True)
    collect_shard([Snapshot("score", "test", run, 0, settings, "d", {})], run / "videos.parquet", run / "scores")
    assert set(read_table(run / TABLE)["status"]) == {"failed"}


def interrupted(run: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Run until the process dies at clip `number`; every finished block is saved."""
    kind = registry.load("videodpo.scorers", "temporal_flickering")
    original, calls = kind.score, []

    def dies(self, clip):
        calls.append(clip)
        if len(calls) > number:
            raise KeyboardInterrupt
        return original(self, clip)

    with monkeypatch.context() as patch:
        patch.setattr(kind, "score", dies)
        with pytest.raises(KeyboardInterrupt):
            score_all(run)


def test_killed_run_resumes_and_ends_with_the_same_bytes(run, monkeypatch, count_scores):
    score_all(run)
    uninterrupted = (run / TABLE).read_bytes()
    shutil.rmtree(run / "scores")
    interrupted(run, monkeypatch, 5)
    count_scores.clear()
    score_all(run)
    assert len(count_scores) == NUM_CLIPS - 4
    assert (run / TABLE).read_bytes() == uninterrupted


def test_second_kill_loses_nothing_of_the_first_try(run, monkeypatch, count_scores):
    interrupted(run, monkeypatch, 4)
    interrupted(run, monkeypatch, 0)
    assert (run / STORE).exists()
    count_scores.clear()
    score_all(run)
    assert len(count_scores) == NUM_CLIPS - 4


def test_other_settings_re_score_and_scores_of_earlier_settings_are_reused(run, count_scores):
    before = score_all(run)
    count_scores.clear()
    score_all(run, weights={"w": "1" * 64})
    assert len(count_scores) == NUM_CLIPS
    count_scores.clear()
    assert score_all(run) == before
    assert count_scores == []


def test_a_changed_clip_re_scores_only_its_block(run, count_scores):
    score_all(run)
    break_clip(run, 0, (run / "clips/1.mp4").read_bytes())
    count_scores.clear()
    rows = score_all(run)
    assert len(count_scores) == BLOCK
    assert rows[0]["value"] == rows[1]["value"]


def test_dimensions_are_scored_together_and_each_has_its_table(run):
    both = [snapshot(run), snapshot(run, "motion_smoothness_dis", digest="e")]
    score_shard(both, run / "videos.parquet", run / "scores")
    done = json.loads((run / "scores" / "shard-00000.json").read_text())
    assert {name: (entry["scorer_digest"], entry["failed"]) for name, entry in done.items()} == {
        column.dimension: (column.digest, {}) for column in map(Column, both)
    }
    for one in both:
        collect_shard([one], run / "videos.parquet", run / "scores")
        table = read_table(run / "scores" / one.settings.dimension / "shard-00000.parquet")
        assert set(table["dimension"]) == {one.settings.dimension}
        assert set(table["status"]) == {"ok"}


def test_a_new_dimension_is_scored_without_the_others(run, count_scores):
    score_all(run)
    count_scores.clear()
    score_shard(
        [snapshot(run), snapshot(run, "motion_smoothness_dis", digest="e")], run / "videos.parquet", run / "scores"
    )
    assert count_scores == []


def test_failures_of_other_shards_count(run):
    break_clip(run, 2, b"no video")
    write_videos(run, read_rows(run / "videos.parquet"), num_videos=50, num_shards=2)
    digest = Column(snapshot(run)).digest
    (run / "scores").mkdir()
    for shard in (1, 2):  # the third is left over from a larger shard count
        entry = {"scorer_digest": digest, "num_clips": 6, "failed": {f"f-{shard}": "cut"}, "temporary": []}
        (run / "scores" / f"shard-{shard:05d}.json").write_text(json.dumps({"temporal_flickering": entry}))
    with pytest.raises(RuntimeError, match="2 of 50 clips failed"):
        score_all(run, allowed=0.03)


@pytest.fixture
def one_frame_among_them(run, clip_folder) -> Callable[..., dict[str, list[float]]]:
    """Function: scores of a run whose clip 1 has one frame, which two of three scorers on one network refuse."""
    write_mp4(run / "one.mp4", render(random_scene(random.Random(1)), random.Random(1))[:1], FPS)
    break_clip(run, 1, (run / "one.mp4").read_bytes())

    def measured(*names: str) -> dict[str, list[float]]:
        options = {"weights": str(clip_folder)}
        snapshots = [snapshot(run, f"{name}_consistency_clip", options=options) for name in names]
        score_shard(snapshots, run / "videos.parquet", run / "scores")
        collect_shard(snapshots, run / "videos.parquet", run / "scores")
        found = {}
        for name in names:
            table = read_table(run / "scores" / f"{name}_consistency_clip" / "shard-00000.parquet")
            found[name] = table["value"].tolist()
        return found

    return measured


def test_a_score_does_not_depend_on_the_other_scorers(run, one_frame_among_them):
    together = one_frame_among_them("background", "subject", "overall")
    shutil.rmtree(run / "scores")
    for name in ("overall", "background", "subject"):
        assert np.array_equal(one_frame_among_them(name)[name], together[name], equal_nan=True)
    assert np.isnan(together["background"]).tolist() == [number == 1 for number in range(NUM_CLIPS)]
    assert np.isfinite(together["overall"]).all()


def test_a_refused_clip_is_not_scored_again(one_frame_among_them, monkeypatch):
    one_frame_among_them("background")
    monkeypatch.setattr(stage, "_make_scorer", lambda snapshot: pytest.fail("nothing is lacking"))
    one_frame_among_them("background")


def test_a_repaired_clip_is_scored_and_its_block_keeps_its_scores(run, count_scores):
    intact = (run / "clips/2.mp4").read_bytes()
    before = score_all(run)
    shutil.rmtree(run / "scores")
    break_clip(run, 2, b"cut")
    broken = score_all(run)
    assert [row["status"] for row in broken].count("failed") == 1
    break_clip(run, 2, intact)
    assert score_all(run) == before
    (run / "scores" / "shard-00000.json").unlink()
    count_scores.clear()
    score_all(run)
    assert count_scores == []


def test_an_error_without_a_message_is_still_a_failed_row(run, monkeypatch):
    kind = registry.load("videodpo.scorers", "temporal_flickering")

    def wordless(self, clip):
        raise ValueError

    monkeypatch.setattr(kind, "score", wordless)
    write_videos(run, read_rows(run / "videos.parquet"), num_videos=100)
    assert {(row["status"], row["error"]) for row in score_all(run)} == {("failed", "ValueError")}


def test_two_jobs_on_one_shard_are_refused(run):
    with (
        exclusive(run, run / STORE),
        pytest.raises(RuntimeError, match="is held by pid"),
    ):
        score_all(run)


def test_video_without_a_prompt_is_an_error(run):
    write_table(run / "prompts.parquet", [], PROMPTS, stage="prompts", digest="p", seed=0)
    with pytest.raises(ValueError, match="no prompt 0000"):
        score_all(run)


def test_scorer_label_depends_on_the_bytes_of_the_weights(tmp_path, run):
    weights = tmp_path / "judge.safetensors"
    shutil.copy(Path(__file__).parents[2] / "demo" / "judge" / "judge.safetensors", weights)
    options = {"weights": str(weights)}
    settings = {"dimension": "caption_accuracy", "options": options, "is_judge": True}
    write_execution(run)
    document = {
        "stage": "score",
        "run": "test",
        "folder": str(run),
        "seed": 0,
        "code_version": "1",
        "settings": settings,
        "weights": {str(weights): "?"},
    }
    write_snapshot(json.dumps(document), tmp_path / "snapshot.json")
    loaded = load_snapshot(tmp_path / "snapshot.json", "score")
    assert _label(loaded) == f"caption_accuracy v1 {sha256_of(weights)[:12]}"
    several = replace(loaded, weights={"a": "1" * 64, "b": "2" * 64})
    moved = replace(loaded, weights={"c": "2" * 64, "d": "1" * 64})
    assert _label(several) == _label(moved) != _label(loaded)
    collect_shard([loaded], run / "videos.parquet", run / "scores")
    assert read_table(run / "scores" / "caption_accuracy" / "shard-00000.parquet")["value"].between(0, 1).all()


def test_score_files_returns_values_or_errors(run):
    (run / "text.mp4").write_text("no video")
    paths = [run / "clips/0.mp4", run / "text.mp4"]
    good, bad = score_files(paths, "temporal_flickering", None, [], "cpu")
    assert set(good) == {"file", "dimension", "value"}
    assert 0 < good["value"] < 1
    assert bad["value"] is None
    assert "text.mp4" in bad["error"]
    json.dumps([good, bad], allow_nan=False)


def test_score_files_refuses_superfluous_and_missing_weights(run):
    with pytest.raises(ConfigError, match="takes none"):
        list(score_files([], "temporal_flickering", None, ["x.pt"], "cpu"))
    with pytest.raises(ConfigError, match="exactly one, 0 given"):
        list(score_files([], "caption_accuracy", None, [], "cpu"))


def test_table_of_no_videos_gives_a_table_of_no_scores(run):
    write_videos(run, [])
    assert score_all(run) == []
    assert read_table(run / TABLE).columns.tolist() == SCORES.names


@pytest.fixture
def count_scores(monkeypatch) -> list[int]:
    """List that grows by one for every clip that is actually scored."""
    kind = registry.load("videodpo.scorers", "temporal_flickering")
    original, calls = kind.score, []
    monkeypatch.setattr(kind, "score", lambda self, clip: calls.append(1) or original(self, clip))
    return calls


@pytest.fixture
def nan_scorer(monkeypatch) -> None:
    kind = registry.load("videodpo.scorers", "temporal_flickering")
    monkeypatch.setattr(kind, "score", lambda self, clip: float("nan"))
