"""The user's own pairs through the real workflow: imported, trained on, evaluated, reported; no clip is scored."""

from __future__ import annotations

import csv
import random
import shutil

import pytest

from tests.conftest import small_run
from tests.support.workspace import FLICKER, Finished, dry_run, make_workspace, without_default_scorers
from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.render import render
from videodpo.storage.tables import read_table
from videodpo.storage.video import write_mp4

NOT_FOR_PAIRS = {"score", "collect_scores", "omniscore"}


@pytest.fixture(scope="module")
def finished(random_model, tmp_path_factory) -> Finished:
    folder, rng = tmp_path_factory.mktemp("pairs") / "work", random.Random(5)
    (folder / "mine").mkdir(parents=True)
    rows = []
    for number in range(4):
        scene = random_scene(rng)
        for side in ("winner", "loser"):
            write_mp4(folder / "mine" / f"{side}{number}.mp4", render(scene, rng).repeat(2, axis=2), 8.0)
        rows.append({"prompt": scene.caption, "winner": f"winner{number}.mp4", "loser": f"loser{number}.mp4"})
    rows.append(rows[0] | {"loser": rows[0]["winner"]})
    with (folder / "mine" / "pairs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "heldout.txt").write_text(
        "a red <b>tram</b> & a \u0442\u0440\u0430\u043c\u0432\u0430\u0439\na slow boat\n"
    )
    overlay = small_run(random_model, "results", generate={"fit_clips": True})
    overlay["prompts"] |= {
        "source": {"kind": "pairs", "path": "mine/pairs.csv"},
        "heldout_source": {"kind": "text", "path": "heldout.txt"},
        "num_train": None,
    }
    overlay["dimensions"] = {FLICKER: {"pillar": "quality", "min": 0.0, "max": 1.0}}
    return Finished(folder, without_default_scorers(overlay))


def test_the_run_ends_with_an_adapter_and_a_report_and_scores_no_training_clip(finished):
    round_folder = finished.folder / "results/small/round1"
    assert len(read_table(round_folder / "pairs.parquet")) == 4
    assert read_table(round_folder / "pairs_rejected.parquet")["reason"].str.contains("same clip").all()
    assert (round_folder / "adapter").is_dir()
    assert not (round_folder / "scores").exists()
    assert not (round_folder / "omniscore.parquet").exists()
    pairs = (round_folder / "report/data/pairs.js").read_text(encoding="utf-8")
    assert '"label":["imported","imported","imported","imported"]' in pairs
    assert "&lt;b&gt;tram&lt;/b&gt;" in (round_folder / "report/index.html").read_text(encoding="utf-8")
    assert len(list((round_folder / "report/clips").glob("pair-*.mp4"))) == 8


def test_a_second_call_does_nothing_and_an_edited_table_reruns_all(finished, tmp_path):
    assert finished.jobs() == []
    folder = shutil.copytree(finished.folder, tmp_path / "edited", symlinks=True)
    table = folder / "mine/pairs.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    jobs = {job.rule for job in dry_run(folder, "--configfile", "overlay.yaml", **finished.environment)}
    assert {"prompts", "generate", "pairs", "train", "report"} <= jobs
    assert not jobs & NOT_FOR_PAIRS


def test_winners_of_the_users_own_need_no_scores_either(finished, tmp_path):
    shutil.copytree(finished.folder / "mine", tmp_path / "mine")
    shutil.copy(finished.folder / "heldout.txt", tmp_path)
    (tmp_path / "mine/winners.csv").write_text("prompt,path\na tram,winner0.mp4\na boat,winner1.mp4\n")
    overlay = {**finished.overlay, "run": "winners", "rounds": 2}
    overlay["prompts"] = overlay["prompts"] | {"source": {"kind": "winners", "path": "mine/winners.csv"}}
    folder = make_workspace(tmp_path, overlay)
    jobs = {job.rule for job in dry_run(folder, "--configfile", "overlay.yaml", **finished.environment)}
    assert {"generate", "pairs", "reference", "train", "evaluate_score", "report"} <= jobs
    assert not jobs & NOT_FOR_PAIRS
