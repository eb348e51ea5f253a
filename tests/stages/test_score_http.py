"""The stage score with dimensions of a service: resuming, its version, and several values of one answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.stages.test_score import NUM_CLIPS, run, snapshot  # noqa: F401 (a fixture)
from tests.support.reward_server import VERSION, requests_to, running
from videodpo.cli import main
from videodpo.config.errors import RunError
from videodpo.runtime.settings import ScoreSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.score import collect_shard, score_shard
from videodpo.storage.tables import read_table


@pytest.fixture(scope="module")
def address():
    with running() as found:
        yield found


def dimension(run: Path, name: str, url: str, **options: Any) -> Snapshot[ScoreSettings]:  # noqa: F811
    options = {"url": url, "version": VERSION, "retries": 0, "batch_size": 2} | options
    settings = ScoreSettings(dimension=name, scorer="http", options=options, is_judge=False)
    return replace(snapshot(run), settings=settings)


def table(run: Path, snapshots: list[Snapshot[ScoreSettings]], name: str) -> list[dict[str, Any]]:  # noqa: F811
    score_shard(snapshots, run / "videos.parquet", run / "scores")
    collect_shard(snapshots, run / "videos.parquet", run / "scores")
    rows: list[dict[str, Any]] = read_table(run / "scores" / name / "shard-00000.parquet").to_dict("records")
    return rows


def test_several_values_of_a_service_are_dimensions_with_its_version(run, address):  # noqa: F811
    snapshots = [dimension(run, f"reward_{value}", f"{address}/two", value=value) for value in ("size", "fps")]
    rows = {one.settings.dimension: table(run, snapshots, one.settings.dimension) for one in snapshots}
    sizes = [(run / f"clips/{number}.mp4").stat().st_size for number in range(NUM_CLIPS)]
    assert [row["value"] for row in rows["reward_size"]] == sizes
    assert {row["dimension"] for row in rows["reward_fps"]} == {"reward_fps"}
    assert {row["scorer"] for row in rows["reward_size"]} == {f"http v1 {VERSION}"}
    assert requests_to(address)["/two"] == [2, 2, 2]


def test_a_service_that_dies_stops_the_shard_and_finished_scores_are_kept(run, address):  # noqa: F811
    with running() as mortal, pytest.raises(RunError, match=r"/dies: no connection.*finished scores are kept"):
        table(run, [dimension(run, "reward", f"{mortal}/dies")], "reward")
    rows = table(run, [dimension(run, "reward", f"{address}/again", time_limit=9.0)], "reward")
    assert {row["status"] for row in rows} == {"ok"}
    assert requests_to(address)["/again"] == [2]  # the block that the dead service had not answered


def test_another_address_scores_nothing_again_and_another_version_everything(run, address):  # noqa: F811
    first = table(run, [dimension(run, "reward", f"{address}/first")], "reward")
    moved = dimension(run, "reward", f"{address}/moved-elsewhere", send="path", retries=3)
    assert table(run, [moved], "reward") == first
    assert "/moved-elsewhere" not in requests_to(address)
    newer = dimension(run, "reward", f"{address}/old", version="2.0")
    assert {row["scorer"] for row in table(run, [newer], "reward")} == {"http v1 2.0"}
    assert requests_to(address)["/old"] == [2, 2, 2]


def test_single_files_are_scored_by_a_service(run, address, capsys):  # noqa: F811
    clips = [str(run / f"clips/{number}.mp4") for number in range(2)]
    options = [f"url={address}/files", f"version='{VERSION}'", "value=size"]
    settings = [part for option in options for part in ("--set", option)]
    assert main(["score-files", *clips, "--dimension", "http", "--prompt", "a", *settings, "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["value"] for line in lines] == [Path(clip).stat().st_size for clip in clips]
    assert main(["score-files", *clips, "--dimension", "http", "--set", "url=x"]) == 1
    assert "dimensions.http.options.url: 'x' is not allowed; Address that takes" in capsys.readouterr().err
