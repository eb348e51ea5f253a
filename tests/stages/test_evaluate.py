"""The paired comparison: who is compared with whom, the interval, and what is said about motion."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tests.support.finished_round import FinishedRound
from videodpo.preference.statistics import bootstrap_interval, motion_panel, win_rate
from videodpo.stages.evaluate import evaluate, format_table
from videodpo.storage.tables import read_table


@pytest.fixture
def finished(tmp_path):
    return FinishedRound(tmp_path, clips=False)


def run(finished, **more):
    finished.write()
    evaluate(finished.evaluate_snapshot(**more), finished.round)
    folder = finished.round / "evaluation"
    return read_table(folder / "prompts.parquet"), json.loads((folder / "summary.json").read_text())


def fail(rows, *numbers):
    for number in numbers:
        rows[number] |= {"status": "failed", "value": None, "error": "no such scene"}


def test_rows_are_sorted_by_prompt_position_sample_and_dimension(finished):
    rows, _ = run(finished)
    heldout = [prompt["prompt_id"] for prompt in finished.prompts if prompt["split"] == "heldout"]
    names = sorted([*finished.scores["base"], "quality", "semantic", "omniscore"])
    expected = [(prompt, sample, name) for prompt in heldout for sample in (0, 1) for name in names]
    assert list(zip(rows.prompt_id, rows["sample"], rows.dimension, strict=True)) == expected


def test_each_row_holds_the_two_arms_own_scores(finished):
    rows, _ = run(finished)
    judged = rows[rows.dimension == "caption_accuracy"]
    assert judged.base.tolist() == [row["value"] for row in finished.scores["base"]["caption_accuracy"]]
    assert judged.delta.tolist() == (judged.aligned - judged.base).tolist()


def test_summary_agrees_with_the_rows(finished):
    rows, summary = run(finished)
    for name, row in summary["dimensions"].items():
        part = rows[rows.dimension == name]
        assert row["delta"] == pytest.approx(part.delta.mean())
        assert row["aligned"] - row["base"] == pytest.approx(row["delta"])
        assert row["ci_low"] <= row["delta"] <= row["ci_high"]
        assert row["win_rate"] == (part.delta > 0).mean()
    assert (summary["num_prompts"], summary["num_clips"], summary["num_left_out"]) == (4, 8, 0)


def test_judges_are_marked_as_such_and_stay_out_of_the_omniscore(finished):
    _, summary = run(finished)
    before = summary["dimensions"]["omniscore"]
    for row in finished.scores["aligned"]["caption_accuracy"]:
        row["value"] = 0.0
    _, summary = run(finished)
    assert summary["dimensions"]["omniscore"] == before
    assert summary["dimensions"]["caption_accuracy"]["kind"] == "judge"


def test_a_clip_that_failed_in_one_arm_is_left_out_of_both(finished):
    fail(finished.scores["aligned"]["imaging_quality"], 3)
    rows, summary = run(finished)
    gone = finished.videos["base"][3]
    assert rows[(rows.prompt_id == gone["prompt_id"]) & (rows["sample"] == gone["sample"])].empty
    assert (summary["num_clips"], summary["num_left_out"]) == (7, 1)


def test_too_many_failures_stop_the_run_and_name_the_arm(finished):
    fail(finished.scores["aligned"]["imaging_quality"], 3)
    with pytest.raises(RuntimeError, match=r"1 of 8 clips failed(.|\n)*-1: aligned: imaging_quality: no such scene"):
        run(finished, max_failed_fraction=0.1)


def test_a_judge_that_fits_no_clip_is_listed_and_stops_nothing(finished):
    for arm in ("base", "aligned"):
        fail(finished.scores[arm]["caption_accuracy"], *range(8))
    rows, summary = run(finished, max_failed_fraction=0.0)
    assert summary["not_applicable"] == {"caption_accuracy": "no such scene"}
    assert "caption_accuracy" not in set(rows.dimension) | set(summary["dimensions"])
    assert "caption_accuracy: not applicable (no such scene)" in format_table(summary)


def test_a_judge_is_compared_on_the_clips_that_it_could_judge_in_both_arms(finished):
    fail(finished.scores["base"]["caption_accuracy"], 0, 1)
    fail(finished.scores["aligned"]["caption_accuracy"], 1, 2)
    rows, summary = run(finished, max_failed_fraction=0.0)
    assert (summary["num_clips"], summary["num_left_out"]) == (8, 0)
    judged = rows[rows.dimension == "caption_accuracy"]
    assert len(judged) == summary["dimensions"]["caption_accuracy"]["num_clips"] == 5
    assert summary["dimensions"]["caption_accuracy"]["delta"] == pytest.approx(judged.delta.mean())
    assert summary["dimensions"]["omniscore"]["num_clips"] == 8
    assert "caption_accuracy: could score 5 of 8 clip pairs" in format_table(summary)


def test_an_omniscore_dimension_that_fits_no_clip_stops_the_run(finished):
    for arm in ("base", "aligned"):
        fail(finished.scores[arm]["imaging_quality"], *range(8))
    with pytest.raises(RuntimeError, match="8 of 8 clips failed"):
        run(finished, max_failed_fraction=1.0)


def test_arms_with_different_clips_are_refused(finished):
    finished.videos["aligned"].pop()
    for rows in finished.scores["aligned"].values():
        rows.pop()
    with pytest.raises(RuntimeError, match="in one arm only"):
        run(finished)


def test_a_single_heldout_prompt_has_no_interval(tmp_path):
    """However many clips it has: every resample of one prompt is the same."""
    _, summary = run(FinishedRound(tmp_path, num_heldout=1, clips=False))
    assert (summary["num_prompts"], summary["num_clips"]) == (1, 2)
    assert {(row["ci_low"], row["ci_high"]) for row in summary["dimensions"].values()} == {(None, None)}
    assert "interval none: a single held-out prompt has none, and supports no claim" in format_table(summary)


def test_a_judge_that_could_score_one_prompt_has_no_interval(finished):
    fail(finished.scores["base"]["caption_accuracy"], *range(2, 8))
    _, summary = run(finished)
    assert summary["dimensions"]["caption_accuracy"]["ci_low"] is None
    assert summary["dimensions"]["omniscore"]["ci_low"] is not None


def test_a_pillar_of_weight_0_is_shown_nowhere_and_its_dimensions_stay_outside_the_omniscore(finished):
    finished.pillars = {"quality": 1.0, "semantic": 0.0}
    rows, summary = run(finished)
    assert "semantic" not in set(rows.dimension) | set(summary["order"]) | set(summary["dimensions"])
    assert summary["dimensions"]["overall_consistency"]["kind"] == "reported"
    assert summary["dimensions"]["quality"]["delta"] == pytest.approx(summary["dimensions"]["omniscore"]["delta"])


def test_no_heldout_prompts_is_an_error_that_names_the_option(tmp_path):
    with pytest.raises(RuntimeError, match=r"prompts\.num_heldout"):
        run(FinishedRound(tmp_path, num_heldout=0, clips=False))


def test_a_second_run_writes_the_same_bytes(finished):
    run(finished)
    files = [finished.round / "evaluation" / name for name in ("prompts.parquet", "summary.json")]
    first = [file.read_bytes() for file in files]
    run(finished)
    assert [file.read_bytes() for file in files] == first


def normal_deltas(rng, num_prompts, clips, spread_between=1.0, spread_within=0.0):
    between = np.repeat(rng.normal(0, spread_between, num_prompts), clips)
    return pd.Series(between + rng.normal(0, spread_within, num_prompts * clips))


def test_copies_of_a_prompts_clips_do_not_narrow_the_interval():
    rng = np.random.default_rng(2)
    once = normal_deltas(rng, 50, 1)
    copied = once.loc[once.index.repeat(8)].reset_index(drop=True)
    narrow = bootstrap_interval(copied, pd.Series(np.repeat(range(50), 8)), resamples=1000, seed=5)
    assert narrow == pytest.approx(bootstrap_interval(once, pd.Series(range(50)), resamples=1000, seed=5))


def test_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(3)
    prompts = pd.Series(np.repeat(range(60), 2))
    covered = 0
    for trial in range(300):
        low, high = bootstrap_interval(normal_deltas(rng, 60, 2, 1.0, 0.5), prompts, resamples=300, seed=trial)
        covered += low <= 0.0 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_interval_does_not_depend_on_how_many_resamples_are_held_at_once(monkeypatch):
    deltas, prompts = normal_deltas(np.random.default_rng(4), 30, 2), pd.Series(np.repeat(range(30), 2))
    whole = bootstrap_interval(deltas, prompts, resamples=500, seed=1)
    monkeypatch.setattr("videodpo.preference.statistics._CELLS", 100)
    assert bootstrap_interval(deltas, prompts, resamples=500, seed=1) == whole


def test_ties_count_as_half_a_win():
    assert win_rate(pd.Series([1.0, 0.0, 0.0, -1.0, -1.0])) == pytest.approx(0.4)


@pytest.mark.parametrize(("after", "warns"), [(1.0, False), (0.91, False), (0.89, True)])
def test_losing_more_than_a_tenth_of_the_motion_warns(after, warns):
    panel = motion_panel("flow", pd.Series([1.0, 1.0]), pd.Series([after, after]))
    assert panel["warning"] is warns
    assert panel["relative_change"] == pytest.approx(after - 1)


def test_nearly_still_clips_are_measured_against_the_base_models_mean():
    panel = motion_panel("flow", pd.Series([0.0, 2.0]), pd.Series([0.05, 0.2]))
    assert (panel["base_still"], panel["aligned_still"]) == (0.5, 0.5)


def test_terminal_table_has_aligned_columns_and_the_warning(finished):
    for row in finished.scores["aligned"]["motion_amount"]:
        row["value"] *= 0.2
    _, summary = run(finished)
    text = format_table(summary)
    table = [line for line in text.splitlines() if "[" in line]
    assert len({line.index("]") for line in table}) == 1
    assert [line.split()[0] for line in table[1:4]] == ["omniscore", "quality", "semantic"]
    assert "WARNING: the aligned model moves less. motion (motion_amount)" in text
