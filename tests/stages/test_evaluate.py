"""The paired comparison: the compared clips, the interval, headroom, and the report on motion."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from tests.support.finished_round import FinishedRound
from videodpo.preference.statistics import bootstrap_interval, motion_panel, win_rate
from videodpo.stages.evaluate import evaluate, format_table
from videodpo.stages.omniscore import aggregate
from videodpo.storage.tables import read_table


@pytest.fixture
def finished(tmp_path):
    return FinishedRound(tmp_path, clips=False)


def run(finished, **more):
    write(finished)
    evaluate(finished.evaluate_snapshot(**more), finished.round)
    folder = finished.round / "evaluation"
    return read_table(folder / "prompts.parquet"), json.loads((folder / "summary.json").read_text())


def write(finished):
    finished.write()
    aggregate(finished.omniscore_snapshot(), finished.round)
    finished.write_train_log()


def fail(rows, *numbers):
    for number in numbers:
        rows[number] |= {"status": "failed", "value": None, "error": "no such scene"}


def test_rows_are_sorted_by_prompt_position_sample_and_dimension(finished):
    rows, _ = run(finished)
    heldout = [prompt["prompt_id"] for prompt in finished.prompts if prompt["split"] == "heldout"]
    names = sorted([*finished.scores["base"], "quality", "semantic", "omniscore"])
    expected = [(prompt, sample, name) for prompt in heldout for sample in (0, 1) for name in names]
    assert list(zip(rows.prompt_id, rows["sample"], rows.dimension, strict=True)) == expected


def test_each_row_has_the_scores_of_both_arms(finished):
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


def test_judges_are_marked_and_not_part_of_the_omniscore(finished):
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


def test_a_judge_that_can_score_no_clip_is_listed_and_stops_nothing(finished):
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


def test_an_omniscore_dimension_that_can_score_no_clip_stops_the_run(finished):
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
    """Every resample of one prompt is the same, for any number of clips."""
    _, summary = run(FinishedRound(tmp_path, num_heldout=1, clips=False))
    assert (summary["num_prompts"], summary["num_clips"]) == (1, 2)
    assert {(row["ci_low"], row["ci_high"]) for row in summary["dimensions"].values()} == {(None, None)}
    assert "interval none: a single held-out prompt has none, and supports no claim" in format_table(summary)


def test_a_judge_that_could_score_only_one_prompt_has_no_interval(finished):
    fail(finished.scores["base"]["caption_accuracy"], *range(2, 8))
    _, summary = run(finished)
    assert summary["dimensions"]["caption_accuracy"]["ci_low"] is None
    assert summary["dimensions"]["omniscore"]["ci_low"] is not None


def test_a_pillar_of_weight_0_is_not_shown_and_its_dimensions_are_outside_the_omniscore(finished):
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


def test_interval_does_not_depend_on_the_number_of_resamples_in_memory(monkeypatch):
    deltas, prompts = normal_deltas(np.random.default_rng(4), 30, 2), pd.Series(np.repeat(range(30), 2))
    expected = bootstrap_interval(deltas, prompts, resamples=500, seed=1)
    monkeypatch.setattr("videodpo.preference.statistics._CELLS", 100)
    assert bootstrap_interval(deltas, prompts, resamples=500, seed=1) == expected


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


def training_table(finished):
    return read_table(finished.round / "omniscore.parquet")


def test_the_headroom_is_the_best_of_the_base_samples_minus_their_mean_on_the_training_prompts(finished):
    _, summary = run(finished)
    columns = {"omniscore": "omniscore", "semantic": "semantic", "imaging_quality": "raw_imaging_quality"}
    for name, column in columns.items():
        row, grouped = summary["dimensions"][name], training_table(finished).groupby("prompt_id")[column]
        assert row["headroom"] == pytest.approx((grouped.max() - grouped.mean()).mean())
        assert row["gain"] == pytest.approx(row["delta"] / row["headroom"])
        assert row["gain_low"] < row["gain"] < row["gain_high"]
        assert [row[f"headroom_{key}"] for key in ("samples", "prompts", "source")] == [4, 4, "training prompts"]


def test_the_comparison_and_its_headroom_keep_the_range_if_the_pairs_are_chosen_by_standardised_scores(finished):
    rows, summary = run(finished)
    before = training_table(finished).omniscore
    finished.scaling = "prompt_group"
    grouped_rows, grouped = run(finished)
    assert not np.allclose(training_table(finished).omniscore, before)
    pd.testing.assert_frame_equal(grouped_rows, rows)
    assert grouped["dimensions"] == summary["dimensions"]


def test_a_judges_headroom_is_computed_from_the_base_arms_clips(finished):
    rows, summary = run(finished)
    row = summary["dimensions"]["caption_accuracy"]
    base = rows[rows.dimension == "caption_accuracy"].groupby("prompt_id").base
    assert row["headroom"] == pytest.approx((base.max() - base.mean()).mean())
    assert [row[f"headroom_{key}"] for key in ("samples", "prompts", "source")] == [2, 4, "held-out prompts"]
    assert row["gain_low"] < row["gain"] < row["gain_high"]


def test_own_clips_give_no_headroom_of_the_base_model(finished):
    finished.from_clips = True
    _, summary = run(finished)
    assert {row["headroom_source"] for row in summary["dimensions"].values()} == {"held-out prompts"}
    assert summary["dimensions"]["omniscore"]["headroom_samples"] == 2


def test_a_later_round_is_measured_against_the_samples_of_the_first(finished, tmp_path):
    _, first = run(finished)
    (tmp_path / "round2").mkdir()
    for name in ("evaluation", "train_log.parquet", ".train_log.parquet.sha256"):
        (finished.round / name).rename(tmp_path / "round2" / name)
    evaluate(finished.evaluate_snapshot(), tmp_path / "round2")
    second = json.loads((tmp_path / "round2" / "evaluation" / "summary.json").read_text())
    assert second["dimensions"] == first["dimensions"]


def test_a_judge_with_one_clip_per_prompt_has_no_headroom(finished):
    for arm in ("base", "aligned"):
        finished.videos[arm] = finished.videos[arm][::2]
        finished.scores[arm] = {name: rows[::2] for name, rows in finished.scores[arm].items()}
    _, summary = run(finished)
    row = summary["dimensions"]["caption_accuracy"]
    assert (row["headroom"], row["headroom_samples"], row["headroom_prompts"]) == (None, 1, 0)
    assert (row["gain"], row["gain_low"], row["gain_high"]) == (None, None, None)
    assert summary["dimensions"]["omniscore"]["gain"] is not None
    assert [line.split()[-1] for line in format_table(summary).splitlines() if "caption_accuracy" in line] == ["none"]


def test_a_prompt_that_lacks_a_scored_sample_is_left_out_of_the_headroom(finished):
    fail(finished.scores["train"]["imaging_quality"], 1)
    _, summary = run(finished)
    row = summary["dimensions"]["omniscore"]
    assert (row["headroom_samples"], row["headroom_prompts"]) == (4, 3)
    complete = training_table(finished).groupby("prompt_id").omniscore.filter(lambda group: len(group) == 4)
    grouped = complete.groupby(np.arange(12) // 4)
    assert row["headroom"] == pytest.approx((grouped.max() - grouped.mean()).mean())


def test_a_dimension_outside_the_omniscore_has_the_headroom_of_its_training_scores(finished):
    finished.evaluation["judges"] = {}
    finished.scores["train"]["caption_accuracy"] = finished._scores("train", "caption_accuracy", 0.0)
    fail(finished.scores["train"]["caption_accuracy"], 0)
    _, summary = run(finished)
    row = summary["dimensions"]["caption_accuracy"]
    values = np.array([row["value"] for row in finished.scores["train"]["caption_accuracy"][4:]]).reshape(3, 4)
    assert row["headroom"] == pytest.approx((values.max(axis=1) - values.mean(axis=1)).mean())
    assert [row[f"headroom_{key}"] for key in ("samples", "prompts", "source")] == [4, 3, "training prompts"]


def test_the_printed_table_has_the_gain_and_explains_100_percent(finished):
    for row in finished.scores["aligned"]["motion_amount"]:
        row["value"] *= 0.2
    _, summary = run(finished)
    text, row = format_table(summary), summary["dimensions"]["motion_amount"]
    gain, low, high = (f"{100 * row[key]:.0f}" for key in ("gain", "gain_low", "gain_high"))
    assert row["gain"] < 0
    assert f"{gain} % [{low}, {high}]" in text
    assert "of headroom (training prompts): 100 % is as good as the best of 4 samples of the base model" in text


def test_the_strength_is_measured_at_the_end_of_the_training_without_skipped_steps(finished):
    _, summary = run(finished)
    end = read_table(finished.round / "train_log.parquet").tail(12)
    moved = summary["strength"]
    assert moved["steps"] == 12
    assert moved["winner"] == pytest.approx(end.error_winner.mean() / end.ref_error_winner.mean() - 1)
    assert moved["winner"] < moved["mean"] < moved["loser"]
    line = "strength (error over the reference's, last 12 steps of the training): winners -"
    assert line in format_table(summary)


def test_a_summary_of_an_earlier_version_is_still_shown(finished):
    _, summary = run(finished)
    for row in summary["dimensions"].values():
        for key in [key for key in row if key.startswith(("gain", "headroom"))]:
            del row[key]
    del summary["strength"]
    assert "of headroom (" not in format_table(summary)


def test_terminal_table_has_aligned_columns_and_the_warning(finished):
    for row in finished.scores["aligned"]["motion_amount"]:
        row["value"] *= 0.2
    _, summary = run(finished)
    text = format_table(summary)
    table = [line for line in text.splitlines() if "[" in line]
    assert len({line.index("]") for line in table}) == 1  # the first bracket of a line
    assert [line.split()[0] for line in table[1:4]] == ["omniscore", "quality", "semantic"]
    assert "WARNING: the aligned model moves less. motion (motion_amount)" in text
