"""Every stage once, end to end, in one process: a small run writes each published file with its columns."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from videodpo.storage.tables import read_metadata, read_table
from videodpo.storage.video import read_mp4
from videodpo.tools.tables import find_tables

SCORES = "video_id prompt_id dimension value status error scorer"
VIDEOS = "video_id prompt_id sample seed status error path sha256 num_frames height width fps latents model adapter"
RAW, NORM = (f"{kind}_imaging_quality_sharpness {kind}_temporal_flickering" for kind in ("raw", "norm"))
TABLES = {
    "prompts.parquet": "prompt_id prompt source split position",
    "prompts_dropped.parquet": "row prompt step reason",
    "round1/videos/shard-00000.parquet": VIDEOS,
    "round1/scores/temporal_flickering/shard-00000.parquet": SCORES,
    "round1/scores/imaging_quality_sharpness/shard-00000.parquet": SCORES,
    "round1/omniscore.parquet": f"video_id prompt_id sample {RAW} {NORM} quality semantic omniscore",
    "round1/pairs.parquet": (
        "pair_id prompt_id winner_id loser_id score_winner score_loser gap probability weight policy label_source"
    ),
    "round1/pairs_rejected.parquet": "prompt_id winner_id loser_id reason",
    "round1/visits.parquet": "step pair_id visit timestep noise_seed split noise_level micro_batch",
    "round1/reference/shard-00000.parquet": ("pair_id visit timestep noise_seed ref_error_winner ref_error_loser"),
    "round1/train_log.parquet": (
        "step epoch loss margin accuracy error_winner error_loser ref_error_winner ref_error_loser weight_mean lr"
        " grad_norm loss_scale skipped validation_loss validation_accuracy seconds samples_per_second max_memory_mb"
        " winner_drift_0 winner_drift_1 winner_drift_2 winner_drift_3"
        " loser_drift_0 loser_drift_1 loser_drift_2 loser_drift_3 safeguard_share"
    ),
    "round1/evaluation/videos/base/shard-00000.parquet": VIDEOS,
    "round1/evaluation/videos/aligned/shard-00000.parquet": VIDEOS,
    "round1/evaluation/scores/base/temporal_flickering/shard-00000.parquet": SCORES,
    "round1/evaluation/scores/aligned/temporal_flickering/shard-00000.parquet": SCORES,
    "round1/evaluation/appearance/base.parquet": (
        "video_id prompt_id sample status error exposure overexposed saturation contrast sharpness seed_distance"
    ),
    "round1/evaluation/prompts.parquet": "prompt_id sample dimension base aligned delta",
}
PROVENANCE = {"schema_version", "stage", "package_version", "commit", "config_digest", "seed"}


@pytest.fixture(scope="module")
def run(every_stage):
    return every_stage / "small"


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_its_columns_and_its_provenance(run, name):
    assert list(read_table(run / name).columns) == TABLES[name].split()
    assert set(read_metadata(run / name)) >= PROVENANCE


def test_sql_knows_each_table_under_one_name(run):
    tables = find_tables(run)
    files = [str(file.relative_to(run)) for parts in tables.values() for part in parts for file in part.files]
    made = {str(path.relative_to(run)) for path in run.rglob("*.parquet")}
    assert sorted(files) == sorted(made - {"round1/state/train_log.parquet"})  # of the last checkpoint
    names = {Path(name).stem for name in TABLES if "shard-" not in name and "evaluation" not in name}
    assert set(tables) == names | {
        "videos",
        "scores",
        "reference",
        "evaluation",
        "evaluation_videos",
        "evaluation_scores",
        "evaluation_appearance",
    }


def test_tables_of_the_training_clips_have_a_row_per_clip(run):
    for name in ("videos", "scores/temporal_flickering"):
        table = read_table(run / "round1" / name / "shard-00000.parquet")
        assert len(table) == 9
        assert (table["status"] == "ok").all()


def test_clips_and_latents_have_the_paths_of_the_table(run):
    for video in read_table(run / "round1/videos/shard-00000.parquet").itertuples():
        assert len(read_mp4(run / video.path)[0]) == video.num_frames
        file, _, key = video.latents.partition("#")
        assert key in load_file(run / file)


def test_only_the_aligned_arm_was_sampled_with_the_adapter(run):
    base, aligned = (
        read_table(run / f"round1/evaluation/videos/{arm}/shard-00000.parquet")["adapter"]
        for arm in ("base", "aligned")
    )
    assert base.isna().all()
    assert aligned.str.startswith("round1/adapter").all()


def test_adapter_summary_and_page_are_written(run):
    assert load_file(run / "round1/adapter/pytorch_lora_weights.safetensors")
    summary = json.loads((run / "round1/evaluation/summary.json").read_text(encoding="utf-8"))
    assert summary["num_clips"] > 0
    assert (run / "round1/report/index.html").is_file()
