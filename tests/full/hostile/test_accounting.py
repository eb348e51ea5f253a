"""Every requested video has one row in every table, or the stage fails and names the video."""

from __future__ import annotations

import pytest

from tests.support.finished_round import FinishedRound
from videodpo.stages.evaluate import evaluate
from videodpo.stages.omniscore import aggregate
from videodpo.storage.schemas import VIDEOS


@pytest.fixture
def finished(tmp_path):
    return FinishedRound(tmp_path, clips=False)


def without_one(rows):
    del rows[1]


def with_one_twice(rows):
    rows.append(dict(rows[1]))


def with_a_foreign_one(rows):
    rows.append(rows[1] | {"video_id": "f" * 16 + "-0", "prompt_id": "f" * 16})


@pytest.mark.parametrize("change", [without_one, with_one_twice, with_a_foreign_one])
@pytest.mark.parametrize("table", ["videos", "scores"])
def test_omniscore_refuses_rows_that_do_not_match(finished, table, change):
    change(finished.videos["train"] if table == "videos" else finished.scores["train"]["imaging_quality"])
    finished.write()
    with pytest.raises(RuntimeError, match=r"\w{16}"):
        aggregate(finished.omniscore_snapshot(), finished.round)
    assert not (finished.round / "omniscore.parquet").exists()


@pytest.mark.parametrize("change", [without_one, with_one_twice, with_a_foreign_one])
@pytest.mark.parametrize("table", ["videos", "scores"])
@pytest.mark.parametrize("arm", ["base", "aligned"])
def test_the_evaluation_refuses_rows_that_do_not_match(finished, table, change, arm):
    change(finished.videos[arm] if table == "videos" else finished.scores[arm]["imaging_quality"])
    finished.write()
    with pytest.raises(RuntimeError, match=r"\w{16}"):
        evaluate(finished.evaluate_snapshot(), finished.round)
    assert not (finished.round / "evaluation" / "prompts.parquet").exists()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_not_finite_is_written_to_no_table(finished, bad):
    finished.scores["train"]["imaging_quality"][0]["value"] = bad
    with pytest.raises(ValueError, match="column 'value' must have no NaN or infinite values"):
        finished.write()


def test_a_requested_video_without_a_row_stops_the_omniscore(finished):
    finished.write()
    rows = finished.videos["train"]
    for shard in range(2):
        extra = {"num_shards": "2", "num_videos": str(len(rows) + 1)}
        finished.save(f"round1/videos/shard-{shard:05d}.parquet", rows[shard::2], VIDEOS, "generate", **extra)
    with pytest.raises(RuntimeError, match=f"{len(rows)} rows for {len(rows) + 1} videos"):
        aggregate(finished.omniscore_snapshot(), finished.round)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_table_holds_a_number_that_is_not_finite(finished, bad):
    finished.videos["train"][0]["fps"] = bad
    with pytest.raises(ValueError, match="column 'fps' must have no NaN or infinite values"):
        finished.save("videos.parquet", finished.videos["train"], VIDEOS, "generate")
