"""Raw scores to OmniScore: the published formula, complete accounting, and left-out videos."""

from __future__ import annotations

import functools
import logging

import numpy as np
import pandas as pd
import pytest

from tests.conftest import write_execution
from videodpo.config import ConfigError, OmniScore, validate
from videodpo.preference import omniscore
from videodpo.runtime.settings import OmniScoreSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.omniscore import aggregate
from videodpo.storage import tables
from videodpo.storage.schemas import PROMPTS, SCORES, VIDEOS
from videodpo.storage.tables import read_metadata, read_table, shard_path, write_table

VBENCH = {
    "subject_consistency": ("quality", 0.1462, 1.0, 1.0),
    "background_consistency": ("quality", 0.2615, 1.0, 1.0),
    "temporal_flickering": ("quality", 0.6293, 1.0, 1.0),
    "motion_smoothness": ("quality", 0.706, 0.9975, 1.0),
    "dynamic_degree": ("quality", 0.0, 1.0, 0.5),
    "aesthetic_quality": ("quality", 0.0, 1.0, 1.0),
    "imaging_quality": ("quality", 0.0, 1.0, 1.0),
    "overall_consistency": ("semantic", 0.0, 0.364, 1.0),
}
PAPER = [
    (80.44, 82.20, 73.42),
    (81.93, 83.07, 77.38),
    (80.95, 82.71, 73.93),
    (81.80, 83.80, 73.81),
    (79.30, 82.35, 67.10),
    (79.80, 83.00, 66.99),
]


def config(dimensions: dict, **more) -> dict:
    blocks = {name: dict(zip(("pillar", "min", "max", "weight"), row, strict=True)) for name, row in dimensions.items()}
    return {"dimensions": blocks, **more}


def raw(**columns) -> pd.DataFrame:
    count = len(next(iter(columns.values())))
    ids = {"video_id": [f"p-{k}" for k in range(count)], "prompt_id": ["p"] * count, "sample": range(count)}
    return pd.DataFrame({**ids, **{f"raw_{name}": values for name, values in columns.items()}})


TWO = config({"sharp": ("quality", 0.0, 1.0, 1.0), "match": ("semantic", 0.0, 1.0, 1.0)})


@pytest.mark.parametrize(("total", "quality", "semantic"), PAPER)
def test_every_published_total_follows_from_its_pillars(total, quality, semantic):
    table = omniscore(raw(sharp=[quality / 100], match=[semantic / 100]), TWO)
    assert round(table.omniscore[0] * 100, 2) == pytest.approx(total, abs=0.0051)


def test_vbench_preset_gives_the_hand_computed_score():
    values = {name: (low + high) / 2 for name, (_, low, high, _) in VBENCH.items()}
    values |= {"dynamic_degree": 1.0, "overall_consistency": 0.182, "imaging_quality": 0.7}
    table = omniscore(raw(**{name: [value] for name, value in values.items()}), config(VBENCH))
    quality = (5 * 0.5 + 0.7 + 0.5 * 1.0) / 6.5  # five halves, imaging 0.7, dynamic degree 1 at half weight
    assert table.quality[0] == pytest.approx(quality, abs=1e-12)
    assert table.semantic[0] == pytest.approx(0.5, abs=1e-12)
    assert table.omniscore[0] == pytest.approx((4 * quality + 0.5) / 5, abs=1e-12)


def test_scaled_scores_leave_the_unit_range_unless_clipping_is_on():
    table = raw(sharp=[-0.5, 1.5], match=[0.5, 0.5])
    assert omniscore(table, TWO).norm_sharp.tolist() == [-0.5, 1.5]
    assert omniscore(table, {**TWO, "clip": True}).norm_sharp.tolist() == [0.0, 1.0]


def test_saturation_limits_the_scaled_scores_of_its_dimension_only():
    dimensions = {name: {**block, "saturate": name == "sharp"} for name, block in TWO["dimensions"].items()}
    scored = omniscore(raw(sharp=[-0.5, 1.5], match=[-0.5, 1.5]), {**TWO, "dimensions": dimensions})
    assert scored.norm_sharp.tolist() == [0.0, 1.0]
    assert scored.norm_match.tolist() != scored.norm_match.clip(0, 1).tolist()


GROUPED = {**TWO, "scaling": "prompt_group"}


def test_scores_are_standardised_within_the_prompt_before_they_are_weighted():
    table = raw(sharp=[0.0, 9.0, 0.6, 7.0, 0.6], match=[0.1, 0.2, 0.1, 0.6, 0.1])
    table["prompt_id"] = ["p", "q", "p", "q", "p"]
    scored = omniscore(table, GROUPED)
    # p: 0.0, 0.6, 0.6 have the mean 0.4 and the standard deviation sqrt(0.08); 0.1 three times has none.
    assert scored.norm_sharp.tolist() == pytest.approx([-(2**0.5), 1, 0.5**0.5, -1, 0.5**0.5])
    assert scored.norm_match.tolist() == pytest.approx([0, -1, 0, 1, 0])
    assert scored.norm_match[[0, 2, 4]].tolist() == [0, 0, 0]
    assert scored.omniscore.tolist() == pytest.approx([-0.8 * 2**0.5, 0.6, 0.8 * 0.5**0.5, -0.6, 0.8 * 0.5**0.5])
    assert scored.raw_sharp.tolist() == table.raw_sharp.tolist()


def test_the_only_clip_of_a_prompt_has_the_standardised_score_0():
    assert omniscore(raw(sharp=[0.3], match=[0.9]), GROUPED).omniscore.tolist() == [0]


def test_a_saturated_score_is_limited_before_it_is_standardised():
    dimensions = {name: {**block, "saturate": True} for name, block in TWO["dimensions"].items()}
    scored = omniscore(raw(sharp=[0.5, 1.0, 4.0], match=[0, 0, 0]), {**GROUPED, "dimensions": dimensions})
    assert scored.norm_sharp.tolist() == pytest.approx([-(2**0.5), 0.5**0.5, 0.5**0.5])


def test_the_default_scaling_is_not_in_the_settings_snapshot():
    assert "scaling" not in validate(OmniScore, TWO).model_dump()
    assert validate(OmniScore, GROUPED).model_dump()["scaling"] == "prompt_group"


def test_a_pillar_without_dimensions_is_zero_and_has_no_weight():
    alone = config({"sharp": ("quality", 0.0, 1.0, 1.0)}, pillars={"quality": 1.0, "semantic": 0.0})
    table = omniscore(raw(sharp=[0.25]), alone)
    assert (table.semantic[0], table.omniscore[0]) == (0.0, 0.25)


def test_columns_have_the_schema_order_for_every_input_order():
    forward = omniscore(raw(sharp=[0.2], match=[0.4], unused=[1.0]), TWO)
    backward = omniscore(
        raw(match=[0.4], sharp=[0.2])[["raw_sharp", "raw_match", "sample", "prompt_id", "video_id"]], TWO
    )
    pd.testing.assert_frame_equal(forward, backward)
    assert list(forward.columns[3:5]) == ["raw_match", "raw_sharp"]


def test_a_video_scores_the_same_bytes_alone_and_among_many():
    rng = np.random.default_rng(0)
    many = raw(**{name: rng.random(1001) for name in VBENCH})
    together = omniscore(many, config(VBENCH))
    alone = pd.concat([omniscore(many.iloc[[k]], config(VBENCH)) for k in range(0, 1001, 97)], ignore_index=True)
    assert together.omniscore[::97].tolist() == alone.omniscore.tolist()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None])
def test_a_missing_raw_score_is_an_error_that_names_the_video(value):
    with pytest.raises(ValueError, match=r"raw_match: video 'p-1'"):
        omniscore(raw(sharp=[0.1, 0.2], match=[0.1, value]), TWO)


def test_a_missing_dimension_is_an_error_that_names_the_column():
    with pytest.raises(ValueError, match="raw_match"):
        omniscore(raw(sharp=[0.1]), TWO)


def test_a_mapping_is_validated_like_the_configuration():
    with pytest.raises(ConfigError, match=r"omniscore\.clips: unknown key"):
        omniscore(raw(sharp=[0.1], match=[0.1]), {**TWO, "clips": True})


class Round:
    """A small round on disk: five prompts, two samples, two dimensions, two shards.

    Shards are as the stages write them or, if `shuffled`, hold every other row of prompts in reversed positions.
    """

    def __init__(self, folder, *, shuffled, max_failed_fraction=0.5, formula=TWO):
        self.folder, self.round, self.shuffled = folder, folder / "round1", shuffled
        write_execution(folder, max_failed_fraction=max_failed_fraction)
        settings = OmniScoreSettings(omniscore=validate(OmniScore, formula))
        self.snapshot = Snapshot("omniscore", "test", folder, 0, settings, "d" * 64, weights={})
        self.prompts = [f"{k:016x}" for k in range(5)]
        self.write(
            folder / "prompts.parquet",
            [
                {
                    "prompt_id": name,
                    "prompt": name,
                    "source": "t",
                    "split": "train",
                    "position": 4 - k if shuffled else k,
                }
                for k, name in enumerate(self.prompts)
            ],
            PROMPTS,
        )
        self.videos = [
            {
                "video_id": f"{name}-{sample}",
                "prompt_id": name,
                "sample": sample,
                "seed": 1,
                "status": "ok",
                "model": "m",
            }
            for name in self.prompts
            for sample in (0, 1)
        ]
        self.scores = {
            dimension: [
                {
                    "video_id": video["video_id"],
                    "prompt_id": video["prompt_id"],
                    "dimension": dimension,
                    "value": number / 10,
                    "status": "ok",
                    "scorer": "s",
                }
                for number, video in enumerate(self.videos)
            ]
            for dimension in ("match", "sharp")
        }

    def write(self, path, rows, schema, **extra):
        write_table(path, rows, schema, stage="test", digest="d", seed=0, extra=extra)

    def run(self):
        for shard in range(2):
            part = slice(shard, None, 2) if self.shuffled else slice(3 * shard, None if shard else 3)
            self.write(shard_path(self.round / "videos", shard), self.videos[part], VIDEOS, num_shards="2")
            for name, rows in self.scores.items():
                self.write(shard_path(self.round / "scores" / name, shard), rows[part], SCORES, num_shards="2")
        aggregate(self.snapshot, self.round)
        return read_table(self.round / "omniscore.parquet")


@pytest.fixture(params=["as written", "shuffled"])
def make_round(request, tmp_path):
    return functools.partial(Round, tmp_path, shuffled=request.param == "shuffled")


def test_rows_follow_the_prompts_positions_and_samples(make_round):
    run = make_round()
    table = run.run()
    prompts = reversed(run.prompts) if run.shuffled else run.prompts
    assert table.prompt_id.tolist() == [name for name in prompts for _ in range(2)]
    assert table["sample"].tolist() == [0, 1] * 5


@pytest.mark.parametrize("rows", [3, 65536])
def test_a_prompt_whose_clips_are_in_two_row_groups_is_standardised_over_all_of_them(make_round, monkeypatch, rows):
    monkeypatch.setattr(tables, "ROW_GROUP", rows)
    run = make_round(formula=GROUPED)
    run.scores["sharp"][3] |= {"status": "failed", "value": None, "error": "black frames"}
    table = run.run()
    alone = table.prompt_id == run.prompts[1]  # its other clip failed
    assert table.norm_match.tolist() == pytest.approx(np.where(alone, 0, 2 * table["sample"] - 1).tolist())
    pd.testing.assert_frame_equal(omniscore(table, GROUPED), table, check_exact=True)


def test_failed_clips_and_scores_are_left_out_counted_and_logged(make_round, caplog):
    run = make_round()
    run.videos[0] |= {"status": "failed", "error": "out of memory"}
    run.scores["match"][0] |= {"status": "failed", "value": None, "error": "no clip"}
    run.scores["sharp"][3] |= {"status": "failed", "value": None, "error": "black frames"}
    with caplog.at_level(logging.INFO):
        table = run.run()
    assert len(table) == 8
    assert not {run.videos[0]["video_id"], run.videos[3]["video_id"]} & set(table.video_id)
    assert read_metadata(run.round / "omniscore.parquet")["num_left_out"] == "2"
    assert "8 videos, 2 left out" in caplog.text


def test_too_many_failures_stop_the_run_with_their_reasons(make_round):
    run = make_round(max_failed_fraction=0.05)
    run.scores["sharp"][3] |= {"status": "failed", "value": None, "error": "black frames"}
    with pytest.raises(RuntimeError, match=r"1 of 10 clips failed(.|\n)*-1: sharp: black frames"):
        run.run()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda rows: rows.pop(2), "no row for"),
        (lambda rows: rows.append(dict(rows[0])), "scored twice"),
        (lambda rows: rows.append({**rows[0], "video_id": "stranger-0"}), "stranger-0 not in the videos table"),
    ],
)
def test_scores_that_do_not_match_the_videos_are_refused(make_round, damage, message):
    run = make_round()
    damage(run.scores["sharp"])
    with pytest.raises(RuntimeError, match=message):
        run.run()


def test_a_second_run_writes_the_same_bytes(make_round):
    run = make_round()
    run.run()
    first = (run.round / "omniscore.parquet").read_bytes()
    run.run()
    assert (run.round / "omniscore.parquet").read_bytes() == first


def test_scores_in_another_order_than_their_videos_give_the_same_table(tmp_path):
    run = Round(tmp_path, shuffled=False)
    expected = run.run()
    run.scores["sharp"].reverse()
    assert run.run().equals(expected)


def test_a_duplicate_video_is_refused(make_round):
    run = make_round()
    run.videos[3] |= {"prompt_id": run.prompts[0], "sample": 0}
    with pytest.raises(RuntimeError, match=r"the videos table has .* twice; re-run the stage generate"):
        run.run()


def test_a_prompt_that_is_not_in_the_prompts_table_is_refused(make_round):
    run = make_round()
    run.videos[3]["prompt_id"] = "stranger"
    with pytest.raises(RuntimeError, match=r"prompts\.parquet: no row for prompt stranger"):
        run.run()
