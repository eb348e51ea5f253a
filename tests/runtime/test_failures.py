"""Failures that stop a stage, and the message."""

import pytest

from videodpo.runtime.failures import failed_so_far, refuse_too_many
from videodpo.storage.schemas import SCORES
from videodpo.storage.tables import shard_path, write_table


def failed(count):
    return {f"v{number}": "gone" for number in range(count)}


def test_a_tolerable_share_passes():
    refuse_too_many("generate", failed(2), 100, 0.02)
    refuse_too_many("generate", {}, 0, 0.0)


def test_more_than_allowed_stops_with_clip_and_reason():
    with pytest.raises(
        RuntimeError, match=r"generate: 3 of 100 clips failed, max_failed_fraction is 0\.02 .*\n  v0: g"
    ):
        refuse_too_many("generate", failed(3), 100, 0.02)


def test_no_success_stops_for_every_limit():
    with pytest.raises(RuntimeError, match="5 of 5"):
        refuse_too_many("generate", failed(5), 5, 1.0)


def test_at_most_ten_are_listed():
    with pytest.raises(RuntimeError) as caught:
        refuse_too_many("generate", failed(25), 30, 0.5)
    assert str(caught.value).count("gone") == 10
    assert "and 15 more" in str(caught.value)


def write_shard(folder, shard, statuses, digest="d"):
    rows = [
        {"video_id": f"{shard}-{number}", "prompt_id": "p", "dimension": "x", "status": status, "error": "gone"}
        | {"value": 1.0 if status == "ok" else None, "scorer": "x"}
        for number, status in enumerate(statuses)
    ]
    write_table(shard_path(folder, shard), rows, SCORES, stage="score", digest=digest, seed=0)
    return rows


def test_failures_of_all_shards_add_up(tmp_path):
    write_shard(tmp_path, 0, ["failed", "ok"])
    write_shard(tmp_path, 1, ["ok", "ok"])
    write_shard(tmp_path, 2, ["failed", "failed"], digest="of other settings")
    rows = write_shard(tmp_path, 3, ["ok", "failed"])
    shard_path(tmp_path, 3).unlink()
    assert failed_so_far(rows, shard_path(tmp_path, 3), "d") == {"0-0": "gone", "3-1": "gone"}


def test_a_shard_without_failures_does_not_read_the_others(tmp_path):
    (tmp_path / "shard-00000.parquet").write_text("no table")
    assert failed_so_far([{"video_id": "a", "status": "ok", "error": None}], shard_path(tmp_path, 1), "d") == {}
