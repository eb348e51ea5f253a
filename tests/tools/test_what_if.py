"""Effect of changed settings on a round's pairs, against numbers computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import small_run
from videodpo.cli import main
from videodpo.config import ConfigError, parse_config
from videodpo.runtime.settings import OmniScoreSettings
from videodpo.runtime.snapshot import Snapshot, load_snapshot, snapshot_text, write_snapshot
from videodpo.stages.omniscore import aggregate
from videodpo.stages.pairs.stage import select_pairs
from videodpo.storage.schemas import PROMPTS, SCORES, VIDEOS
from videodpo.storage.tables import read_table, shard_path, write_table
from videodpo.tools.what_if import format_comparison, what_if

SHARP, MOTION = "imaging_quality_sharpness", "dynamic_degree_dis"
MORE_MOTION = f"dimensions.{MOTION}.weight=9"
# (sharpness, motion) of each sample, by prompt. With equal weights sample 0 always wins; in "a" it moves less.
VALUES = {
    "a": [(0.9, 0.1), (0.2, 0.4)],
    "b": [(0.2, 0.9), (0.3, 0.35)],
    "c": [(0.5, 0.5), (0.45, 0.45)],
}


def configuration(results: Path, dimensions=(SHARP, MOTION), motion_dimension=MOTION, **pairs):
    block = {"pillar": "quality", "min": 0.0, "max": 1.0}
    return small_run(
        results / "no-model",
        results,
        dimensions={"temporal_flickering": None, SHARP: {}} | {name: dict(block) for name in dimensions},
        omniscore={"pillars": {"quality": 1.0, "semantic": 0.0}},
        evaluate={"motion_dimension": motion_dimension},
        pairs={"reweight": {"bin_width": 0.1}, **pairs},
    )


def finished(results: Path, values=VALUES, **options) -> Path:
    """A run whose first round has been scored, aggregated and paired by the real stages."""
    raw = configuration(results, **options)
    config = parse_config(raw)
    run = results / config.run
    for stage in ("omniscore", "pairs", "evaluate", "execution"):
        write_snapshot(snapshot_text(config, stage), run / "config" / f"{stage}.json")
    kept = {"stage": "test", "digest": "d", "seed": 0}
    videos = [
        {"video_id": f"{p}-{s}", "prompt_id": p, "sample": s, "seed": 0, "status": "ok", "model": "m"}
        for p, samples in values.items()
        for s in range(len(samples))
    ]
    prompts = [
        {"prompt_id": p, "prompt": p, "source": "s", "split": "train", "position": k} for k, p in enumerate(values)
    ]
    write_table(run / "prompts.parquet", prompts, PROMPTS, **kept)
    write_table(shard_path(run / "round1" / "videos", 0), videos, VIDEOS, **kept)
    for place, name in enumerate((SHARP, MOTION)):
        rows = [
            {key: video[key] for key in ("video_id", "prompt_id", "status")}
            | {"dimension": name, "scorer": name, "value": values[video["prompt_id"]][video["sample"]][place]}
            for video in videos
        ]
        write_table(shard_path(run / "round1" / "scores" / name, 0), rows, SCORES, **kept)
    omniscore: Snapshot[OmniScoreSettings] = load_snapshot(run / "config" / "omniscore.json", "omniscore")
    aggregate(omniscore, run / "round1")
    select_pairs(load_snapshot(run / "config" / "pairs.json", "pairs"), run / "round1")
    return run


@pytest.fixture
def run(tmp_path):
    return finished(tmp_path)


def counts(comparison):
    return {name: getattr(comparison, name) for name in ("kept", "flipped", "new", "gone")}


def test_the_current_side_has_the_pairs_that_the_stage_wrote(run):
    now = what_if(run, 1, ["pairs.reweight.exponent=0"]).now
    assert now.pairs.to_dict() == read_table(run / "round1" / "pairs.parquet").to_dict()


def test_unchanged_settings_keep_every_pair(run):
    assert counts(what_if(run, 1, ["pairs.reweight.exponent=0.72"])) == {"kept": 3, "flipped": 0, "new": 0, "gone": 0}


def test_a_new_weight_flips_the_pair_that_it_decides(run):
    assert counts(what_if(run, 1, [MORE_MOTION])) == {"kept": 2, "flipped": 1, "new": 0, "gone": 0}


def test_scores_standardised_within_the_prompt_flip_a_pair_that_a_wide_range_decides(run):
    weight = f"dimensions.{MOTION}.weight=2"
    assert counts(what_if(run, 1, [weight]))["flipped"] == 0
    assert counts(what_if(run, 1, [weight, "omniscore.scaling=prompt_group"]))["flipped"] == 1  # a: -1 + 2 * 1


def test_a_filter_removes_pairs(run):
    comparison = what_if(run, 1, ["pairs.filters.min_gap=0.1"])
    assert counts(comparison) == {"kept": 2, "flipped": 0, "new": 0, "gone": 1}
    assert len(comparison.then.rejected) == 1


def test_another_policy_adds_pairs(tmp_path):
    run = finished(tmp_path, {"a": [(0.9, 0.1), (0.2, 0.4), (0.3, 0.1)]})
    assert counts(what_if(run, 1, ["pairs.policy=all"])) == {"kept": 1, "flipped": 0, "new": 2, "gone": 0}


def test_margins_are_means_of_winner_minus_loser(run):
    comparison = what_if(run, 1, [MORE_MOTION])
    assert comparison.now.margins == pytest.approx({SHARP: 0.65 / 3, MOTION: 0.3 / 3})
    assert comparison.then.margins == pytest.approx({SHARP: -0.75 / 3, MOTION: 0.9 / 3})


def test_margins_keep_the_runs_scale_if_the_scale_changes(run):
    comparison = what_if(run, 1, [f"dimensions.{SHARP}.max=2"])
    assert comparison.then.margins == comparison.now.margins | {SHARP: comparison.then.margins[SHARP]}
    assert counts(comparison)["kept"] == 3
    assert comparison.then.margins[SHARP] == pytest.approx(0.65 / 3)


def test_still_video_bias_is_the_share_of_winners_that_move_less(run):
    comparison = what_if(run, 1, [MORE_MOTION])
    assert comparison.now.still_winners == {MOTION: pytest.approx(1 / 3)}
    assert comparison.then.still_winners == {MOTION: 0.0}


def test_a_dimension_decides_the_pairs_that_the_winner_would_lose_without_it(run):
    comparison = what_if(run, 1, [MORE_MOTION])
    assert comparison.now.decided == {SHARP: 1, MOTION: 1}  # a by sharpness, b by motion, c by both
    assert comparison.then.decided == {SHARP: 0, MOTION: 2}


def test_a_bit_can_decide_pairs_that_a_saturated_scale_does_not(tmp_path):
    run = finished(tmp_path, {"a": [(0.5, 1.0), (0.6, 0.0)], "b": [(0.9, 1.0), (0.2, 0.0)]})
    limited = [f"dimensions.{MOTION}={{pillar: quality, min: -9, max: 1, saturate: true}}"]
    comparison = what_if(run, 1, limited)
    assert (comparison.now.decided[MOTION], comparison.then.decided[MOTION]) == (1, 0)


def test_the_motion_dimension_is_found_by_name_without_an_evaluation(tmp_path):
    run = finished(tmp_path, motion_dimension=None)
    assert list(what_if(run, 1, [MORE_MOTION]).now.still_winners) == [MOTION]


def test_a_reported_dimension_can_be_added_to_the_omniscore(tmp_path):
    run = finished(tmp_path, dimensions=(SHARP,), motion_dimension=None)
    setting = f"dimensions.{MOTION}={{pillar: quality, min: 0, max: 1}}"
    comparison = what_if(run, 1, [setting])
    assert counts(comparison)["flipped"] == 1  # prompt b: the sharper video moves much less
    assert set(comparison.now.margins) == {SHARP, MOTION}


def test_a_dimension_can_be_removed(run):
    assert counts(what_if(run, 1, [f"dimensions.{MOTION}=null"]))["flipped"] == 1


def test_all_pairs_are_effective_without_reweighting(run):
    comparison = what_if(run, 1, ["pairs.reweight.exponent=0"])
    assert comparison.then.effective_pairs == 3.0
    weight = comparison.now.pairs.weight
    assert comparison.now.effective_pairs == pytest.approx(weight.sum() ** 2 / (weight**2).sum())
    assert comparison.now.effective_pairs < 3.0


def test_a_moved_run_can_be_compared(run, tmp_path):
    moved = run.rename(tmp_path / "archive")
    assert what_if(moved, 1, ["pairs.reweight.exponent=0"]).kept == 3


def test_nothing_is_written(run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    what_if(run, 1, [MORE_MOTION, "pairs.policy=all"])
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


@pytest.mark.parametrize(
    "setting", ["train.beta=1", "generate.videos_per_prompt=8", "pairs=5", "exponent=0", "nonsense"]
)
def test_a_key_that_needs_the_run_itself_is_refused(run, setting):
    with pytest.raises(ConfigError, match="keys of omniscore, dimensions and pairs can be tried"):
        what_if(run, 1, [setting])


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("pairs.reweight.exponent=high", "pairs.reweight.exponent"),
        ("pairs.alfa=1", "pairs.alfa"),
        ("pairs.policy=best", "pairs.policy"),
        (f"dimensions.{SHARP}.min=7", f"dimensions.{SHARP}.min"),
        ("dimensions.taste={pillar: quality, min: 0, max: 1}", "dimensions.taste"),
        ("pairs.filters.no_regression.taste=0.1", "pairs.filters.no_regression.taste"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(run, setting, key):
    with pytest.raises(ConfigError, match=f"{key}: "):
        what_if(run, 1, [setting])


def test_settings_that_leave_no_pair_are_refused_with_the_reasons(run):
    with pytest.raises(ValueError, match=r"3 x min_gap: below 0\.9"):
        what_if(run, 1, ["pairs.filters.min_gap=0.9"])


def test_command_prints_both_sides(run, capsys):
    assert main(["what-if", "--run", str(run), "--set", MORE_MOTION, "--set", "pairs.reweight.exponent=0"]) == 0
    lines = {" ".join(line.split()[:-2]): line.split()[-2:] for line in capsys.readouterr().out.splitlines()}
    assert lines["pairs"] == ["3", "3"]
    assert lines[f"winner moves less ({MOTION})"] == ["33.3%", "0.0%"]
    assert lines[MOTION] == ["1", "2"]  # the last line of this name: the pairs that it decides
    assert "effective pairs (by weight)" in lines


def test_the_printed_table_has_lines_of_one_width(run):
    lines = format_comparison(what_if(run, 1, [MORE_MOTION])).splitlines()
    assert {len(line) for line in lines if not line.startswith(("mean margin", "pairs decided"))} == {64}


def test_a_folder_that_is_not_a_run_is_named(tmp_path, capsys):
    assert main(["what-if", "--run", str(tmp_path), "--set", "pairs.reweight.exponent=0"]) == 1
    assert f"not a settings snapshot: {tmp_path}/config/pairs.json: not readable" in capsys.readouterr().err


def test_a_round_that_does_not_exist_is_named(run, capsys):
    assert main(["what-if", "--run", str(run), "--round", "2", "--set", "pairs.reweight.exponent=0"]) == 1
    assert "round2/videos: no shard-00000.parquet" in capsys.readouterr().err
