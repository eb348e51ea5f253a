"""A run on clips of several sizes and lengths, from the sampling to the fine-tune."""

import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open

from tests.conftest import small_run
from videodpo.cli import main
from videodpo.dpo.passes import Passes
from videodpo.dpo.policy import build_policy
from videodpo.stages.generate.sample import generate_heldout_shard
from videodpo.stages.report.clips import ClipFolder
from videodpo.stages.report.gallery import Side
from videodpo.stages.score import score_files
from videodpo.storage.schemas import CLIP_SIZE
from videodpo.storage.tables import read_shards, read_sizes, read_table
from videodpo.storage.video import read_mp4

OWN, BUCKETS = (5, 32, 32), [(5, 64, 32), (9, 32, 32)]
LATENTS = {OWN: (2, 8, 8), BUCKETS[0]: (2, 16, 8), BUCKETS[1]: (3, 8, 8)}


def configuration(model, results, *, shards=1, reference_shards=1, train=None, **sampling):
    """18 videos of 6 prompts in batches of 4; 18 pairs in total."""
    raw = small_run(model, results, reference={"shards": reference_shards}, pairs={"policy": "all"})
    buckets = [dict(zip(CLIP_SIZE, bucket, strict=True)) for bucket in BUCKETS]
    raw["generate"] |= {"sampling": raw["generate"]["sampling"] | {"buckets": buckets} | sampling, "shards": shards}
    raw["schedule"] = {"num_steps": 8, "global_batch_size": 4, "micro_batch_size": 2}
    raw["schedule"]["validation"] = {"num_prompts": 3, "draws": 3}
    raw["train"] |= train or {}
    return raw


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("buckets")


@pytest.fixture(scope="module")
def run(stages, random_model, results):
    run = stages(configuration(random_model, results))
    run.until_pairs()
    run.reference()
    return run


@pytest.fixture(scope="module")
def trained(stages, random_model, results, run):
    """Function that trains with the given `reference` and returns the log."""

    def train(reference):
        variant = stages(configuration(random_model, results, train={"reference": reference}))
        shutil.rmtree(variant.round_folder / "state", ignore_errors=True)
        variant.train()
        return read_table(variant.round_folder / "train_log.parquet")

    return train


def test_every_prompt_has_clips_of_one_of_the_sizes(run):
    videos = read_shards(run.round_folder / "videos")
    sizes = read_sizes(run.round_folder / "videos")
    assert {OWN, *BUCKETS} == set(sizes.values())
    assert all(len(set(ids.map(sizes))) == 1 for _, ids in videos.groupby("prompt_id")["video_id"])
    assert videos["video_id"].tolist() == [f"{row.prompt_id}-{row.sample}" for row in videos.itertuples()]


def test_clips_and_latents_have_the_size_that_the_table_names(run):
    for row in read_shards(run.round_folder / "videos").itertuples():
        size = (row.num_frames, row.height, row.width)
        assert read_mp4(run.folder / row.path)[0].shape == (*size, 3)
        name, _, key = row.latents.partition("#")
        with safe_open(run.folder / name, framework="pt") as file:
            assert file.get_tensor(key).shape[1:] == LATENTS[size]


def test_a_batch_of_several_sizes_is_the_same_for_every_shard_count(run, stages, random_model, tmp_path):
    other = stages(configuration(random_model, tmp_path, shards=3))
    other.prompts()
    other.generate()
    one, three = (read_shards(folder / "videos") for folder in (run.round_folder, other.round_folder))
    assert one["sha256"].equals(three["sha256"])


def test_an_additional_bucket_does_not_change_a_prompts_noise(run, stages, random_model, tmp_path):
    """Seeds do not depend on sizes: a clip of the default size equals that of a run without buckets."""
    alone = stages(configuration(random_model, tmp_path, buckets=[], batch_size=1))
    bucketed = stages(configuration(random_model, tmp_path / "b", batch_size=1))
    for each in (alone, bucketed):
        each.prompts()
        each.generate()
    videos = [read_shards(each.round_folder / "videos").set_index("video_id") for each in (alone, bucketed)]
    own = [name for name, size in read_sizes(bucketed.round_folder / "videos").items() if size == OWN]
    assert own
    assert videos[0].loc[own, "sha256"].equals(videos[1].loc[own, "sha256"])


@pytest.mark.parametrize("dimension", ["temporal_flickering", "imaging_quality_sharpness"])
def test_clips_of_several_sizes_are_scored_as_if_alone(run, dimension):
    scores = read_shards(run.round_folder / "scores" / dimension).set_index("video_id")
    assert (scores["status"] == "ok").all()
    one_of_each = read_shards(run.round_folder / "videos").groupby(list(CLIP_SIZE)).first()
    assert len(one_of_each) == 3
    found = score_files([run.folder / path for path in one_of_each["path"]], dimension, None, [], "cpu")
    assert [one["value"] for one in found] == scores.loc[one_of_each["video_id"], "value"].tolist()


def test_winner_and_loser_have_one_size(run):
    sizes = read_sizes(run.round_folder / "videos")
    pairs = read_table(run.round_folder / "pairs.parquet")
    assert len(pairs) == 18
    assert pairs["winner_id"].map(sizes).tolist() == pairs["loser_id"].map(sizes).tolist()


def test_the_reference_table_does_not_depend_on_its_shard_count(run, stages, random_model, tmp_path):
    shutil.copytree(run.folder, tmp_path / "small")
    other = stages(configuration(random_model, tmp_path, reference_shards=4))
    other.reference()
    columns = ["pair_id", "visit", "noise_seed", "ref_error_winner", "ref_error_loser"]
    one, four = (read_shards(folder / "reference")[columns] for folder in (run.round_folder, other.round_folder))
    assert four.equals(one)


def test_every_forward_pass_starts_at_ln_2_and_has_one_size(run):
    passes = Passes(run.snapshot("train"), run.round_folder, build_policy(run.snapshot("train"), None, "cpu"))
    shapes = set()
    for places in passes.plan.micro_batches:
        shapes.add(passes._batch(places).latents.shape[2:])
        np.testing.assert_allclose(passes.measure(places)[:, 1].tolist(), math.log(2), rtol=0, atol=1e-6)
    assert shapes == set(LATENTS.values())


def test_passes_of_two_sizes_are_refused(run):
    passes = Passes(run.snapshot("train"), run.round_folder, build_policy(run.snapshot("train"), None, "cpu"))
    visits = [passes.plan.visits[places.start] for places in passes.plan.micro_batches]
    with pytest.raises(ValueError, match="one forward pass needs one size"):
        passes.data.batch(visits)


def test_table_and_live_references_train_alike(trained):
    table, live = trained("precomputed"), trained("online")
    assert len(table) == 8
    assert np.isfinite(table[["loss", "margin", "grad_norm", "error_winner", "error_loser"]]).all(axis=None)
    assert (table["grad_norm"] > 0).all()
    assert np.isfinite(table["validation_loss"].iloc[-1])
    for column in ("loss", "margin", "validation_loss"):
        np.testing.assert_allclose(table[column], live[column], rtol=0, atol=1e-4)


def test_two_processes_with_passes_of_two_sizes_train_like_one(trained, run):
    one = trained("precomputed")
    shutil.rmtree(run.round_folder / "state")
    run.snapshot("train")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "videodpo", "train", "--config", str(run.folder / "config" / "train.json"), "--launched"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    two = read_table(run.round_folder / "train_log.parquet")
    np.testing.assert_allclose(two["loss"], one["loss"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(two["validation_loss"], one["validation_loss"], rtol=0, atol=1e-5)


def test_both_arms_of_the_evaluation_draw_the_same_sizes(trained, run):
    trained("precomputed")
    snapshot = run.snapshot("evaluate_generate")
    for arm, adapter in (("base", None), ("aligned", run.round_folder / "adapter")):
        generate_heldout_shard(snapshot, 1, 0, arm, adapter)
    base, aligned = (read_sizes(run.round_folder / "evaluation" / "videos" / arm) for arm in ("base", "aligned"))
    assert base == aligned
    assert set(base.values()) <= {OWN, *BUCKETS}


def test_the_doctor_finds_a_healthy_round_healthy_and_looks_at_every_size(run, monkeypatch, capsys):
    from videodpo.stages.doctor.start import Start

    shapes = set()
    check = Start.check

    def seen(self):
        shapes.update(tuple(batch.latents.shape[2:]) for batch in self._batches)
        return check(self)

    monkeypatch.setattr(Start, "check", seen)
    run.snapshot("train")
    assert main(["doctor", "--config", str(run.folder / "config" / "train.json"), "--round", "1", "--json"]) == 0
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    # The weights are random, and the training is short.
    unusual = {finding["check"] for finding in findings if finding["status"] != "fine"}
    assert unusual <= {"vae_round_trip", "movement"}
    assert shapes == set(LATENTS.values())


def test_the_gallery_shows_each_clip_in_its_own_proportions(run, tmp_path):
    side = Side("winner", "pair", run.folder, read_shards(run.round_folder / "videos").set_index("video_id"))
    clips = ClipFolder(tmp_path / "clips")
    for video_id, (_, height, width) in read_sizes(run.round_folder / "videos").items():
        file = side.add_to(clips, side.rows([video_id])[0])
        assert read_mp4(tmp_path / file)[0].shape[1:3] == (height, width)
