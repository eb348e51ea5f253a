"""`videodpo compare`: common clips, one OmniScore, differences with intervals, and one sentence for each mistake."""

from __future__ import annotations

import json
import shutil

import pandas as pd
import pytest

from tests.support.finished_round import FinishedRound
from videodpo.cli import main
from videodpo.runtime.settings import OmniScoreSettings
from videodpo.runtime.snapshot import load_formula
from videodpo.stages.evaluate import evaluate
from videodpo.stages.omniscore import aggregate
from videodpo.storage.manifests import record_json
from videodpo.storage.schemas import EVALUATION
from videodpo.storage.tables import read_table


def finish(folder, **options):
    run = FinishedRound(folder, num_train=1, **options)
    run.write()
    aggregate(run.omniscore_snapshot(), run.round)
    run.write_train_log()
    evaluate(run.evaluate_snapshot(), run.round)
    record(folder, "omniscore", OmniScoreSettings(omniscore=run._omniscore()))
    return run


def record(folder, stage, settings):
    """Write a settings snapshot."""
    document = {"stage": stage, "run": "r", "folder": "r", "seed": 3, "code_version": "1", "weights": {}}
    record_json(folder / "config" / f"{stage}.json", document | {"settings": settings.model_dump()})


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs; the second one's aligned clips score 0.1 more in one dimension, and it lacks one clip."""
    folder = tmp_path_factory.mktemp("runs")
    first = finish(folder / "first", num_heldout=3)
    shutil.copytree(folder / "first", folder / "second")
    table = read_table(folder / "second/round1/evaluation/prompts.parquet")
    table.loc[table.dimension == "imaging_quality", ["aligned", "delta"]] += 0.1
    table = table[~((table.prompt_id == first.prompts[-1]["prompt_id"]) & (table["sample"] == 1))]
    first.folder = folder / "second"
    first.save("round1/evaluation/prompts.parquet", table, EVALUATION, "evaluate")
    return folder / "first", folder / "second"


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "page"
    assert main(["compare", *map(str, runs), "--out", str(out), "--clips", "2"]) == 0
    return out


def columns(folder):
    text = (folder / "data/runs.js").read_text(encoding="utf-8")
    return json.loads(text.partition(" = ")[2].removesuffix(";\n"))


def test_a_run_on_own_pairs_has_the_formula_of_its_evaluation(tmp_path):
    run = FinishedRound(tmp_path, clips=False)
    record(tmp_path, "evaluate", run.evaluate_snapshot().settings)
    assert load_formula(tmp_path) == run._omniscore()


def test_rows_are_the_clips_that_all_runs_have(page):
    found = columns(page)
    assert found["sides"] == ["base", "first", "second"]  # one base: its clips are the same in both runs
    assert len(found["ids"]) == 5
    assert sum(file is not None for file in found["clips"][2]) == 2
    assert all((page / file).is_file() for side in found["clips"] for file in side if file)


def test_a_difference_between_runs_has_its_interval(page):
    table = pd.read_csv(page / "figures/difference-1.csv").set_index("score")
    assert table.delta["imaging_quality"] == pytest.approx(0.1)
    assert table.ci_low["imaging_quality"] == pytest.approx(0.1)
    assert table.delta["omniscore"] > 0  # both totals follow one formula, computed anew from the dimensions
    assert table.delta["saturation"] == 0
    assert set(table.of) == {"second"}


def test_the_command_prints_the_differences(runs, tmp_path, capsys):
    assert main(["compare", *map(str, runs), "--out", str(tmp_path / "page")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "5 held-out clips in common"
    assert [line.partition(":")[0] for line in lines[1:4]] == [
        "first minus base",
        "second minus base",
        "second minus first",
    ]


def test_an_earlier_comparison_is_replaced_and_another_folder_refused(page, runs, tmp_path, capsys):
    (page / "left.txt").touch()
    assert main(["compare", *map(str, runs), "--out", str(page)]) == 0
    assert not (page / "left.txt").exists()
    (tmp_path / "mine.txt").touch()
    assert main(["compare", *map(str, runs), "--out", str(tmp_path)]) == 1
    assert "not an earlier comparison" in capsys.readouterr().err
    assert (tmp_path / "mine.txt").exists()


def test_runs_without_a_common_prompt_are_refused_in_one_sentence(runs, tmp_path, capsys):
    other = FinishedRound(tmp_path / "other", num_train=1, num_heldout=1, clips=False)
    other.prompts[-1]["prompt_id"] = "0" * 16
    for arm in ("base", "aligned"):
        for row in (*other.videos[arm], *(row for rows in other.scores[arm].values() for row in rows)):
            row |= {"prompt_id": "0" * 16, "video_id": f"{'0' * 16}-{row['video_id'][-1]}"}
    other.write()
    aggregate(other.omniscore_snapshot(), other.round)
    other.write_train_log()
    evaluate(other.evaluate_snapshot(), other.round)
    assert main(["compare", str(runs[0]), str(other.folder), "--out", str(tmp_path / "page")]) == 1
    answer = capsys.readouterr().err
    assert answer == (
        "videodpo compare: first, other have no held-out prompt in common; give runs of the same prompts\n"
    )
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize(
    ("which", "message"),
    [((0,), "give two or more"), ((0, 0), "given more than once"), ((0, None), "no evaluation; give results/<run>")],
)
def test_a_call_without_two_evaluated_runs_is_refused(runs, tmp_path, which, message, capsys):
    paths = [str(tmp_path if number is None else runs[number]) for number in which]
    assert main(["compare", *paths, "--out", str(tmp_path / "page")]) == 1
    assert message in capsys.readouterr().err
