"""Sampling of shards: inputs of a video, stored files, and how a killed job resumes."""

import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open

from tests.conftest import made
from videodpo.models.wan import WanModel
from videodpo.storage.files import sha256_of
from videodpo.storage.tables import read_shards, read_table, shard_path
from videodpo.storage.video import read_mp4


def digests(run):
    table = read_shards(run.round_folder / "videos")
    return dict(zip(table["video_id"], table["sha256"], strict=True))


@pytest.fixture
def one(stages, small_config):
    return made(stages, small_config)


def test_train_prompts_have_videos_and_heldout_prompts_have_none(one):
    videos = read_shards(one.round_folder / "videos")
    prompts = read_table(one.folder / "prompts.parquet")
    train = set(prompts.loc[prompts["split"] == "train", "prompt_id"])
    assert set(videos["prompt_id"]) == train
    assert all(list(samples) == [0, 1, 2] for _, samples in videos.groupby("prompt_id")["sample"])


def test_clips_agree_with_the_table(one):
    for row in read_shards(one.round_folder / "videos").itertuples():
        frames, fps = read_mp4(one.folder / row.path)
        assert frames.shape == (row.num_frames, row.height, row.width, 3) == (5, 32, 32, 3)
        assert fps == row.fps == 8.0
        assert sha256_of(one.folder / row.path) == row.sha256


def test_stored_latents_decode_to_the_stored_clip(one):
    model = WanModel(one.config.model, "cpu")
    row = read_shards(one.round_folder / "videos").iloc[0]
    name, _, key = row["latents"].partition("#")
    with safe_open(one.folder / name, framework="pt") as file:
        frames = model.decode(file.get_tensor(key)[None])[0]
    clip, _ = read_mp4(one.folder / row["path"])
    assert np.abs(frames.astype(int) - clip.astype(int)).mean() < 25  # the loss of H.264 and 4:2:0 on a random picture


@pytest.mark.parametrize("shards", [2, 5])
def test_a_video_is_the_same_for_every_shard_count(one, stages, small_config, shards, tmp_path):
    base = small_config()["generate"]
    other = made(stages, small_config, results=str(tmp_path / "other"), generate=base | {"shards": shards})
    assert digests(other) == digests(one)


def test_a_killed_shard_resumes_after_its_last_finished_batch(one, monkeypatch):
    """Two batches of a killed job are kept; only the others are re-sampled."""
    videos = one.round_folder / "videos"
    files = [shard_path(videos, 0), *(videos / kind / "shard-00000.safetensors" for kind in ("latents", "texts"))]
    expected = [file.read_bytes() for file in files]
    run_again_from_parts(one, monkeypatch, keep=2, resampled=3)
    assert [file.read_bytes() for file in files] == expected


def test_an_error_in_the_background_stops_the_job_and_keeps_only_finished_batches(one, monkeypatch):
    """The clips of the third batch cannot be written: only the first two batches are kept."""
    import videodpo.stages.generate.sample

    write, written = videodpo.stages.generate.sample.write_mp4, []

    def full_disk(path, *args, **keys):
        written.append(path)
        if len(written) > 8:
            raise OSError(28, "No space left on device")
        write(path, *args, **keys)

    shutil.rmtree(one.round_folder / "videos")
    monkeypatch.setattr(videodpo.stages.generate.sample, "write_mp4", full_disk)
    with pytest.raises(OSError, match="No space left"):
        one.generate()
    work = one.round_folder / "videos" / "work" / "shard-00000"
    assert sorted(path.name for path in work.glob("batch-??????.safetensors")) == [
        "batch-000000.safetensors",
        "batch-000001.safetensors",
    ]
    assert len((work / "progress.jsonl").read_text().splitlines()) == 2


def test_a_batch_is_finished_while_the_next_is_sampled(one, monkeypatch):
    """Sampling of the second batch waits until a clip of the first is being written."""
    import threading

    import videodpo.stages.generate.sample

    write, sample, calls = videodpo.stages.generate.sample.write_mp4, WanModel.sample, []
    writing = threading.Event()

    def seen(path, *args, **keys):
        writing.set()
        write(path, *args, **keys)

    def waits(self, *args):
        calls.append(1)
        assert len(calls) != 2 or writing.wait(timeout=60)
        return sample(self, *args)

    shutil.rmtree(one.round_folder / "videos")
    monkeypatch.setattr(videodpo.stages.generate.sample, "write_mp4", seen)
    monkeypatch.setattr(WanModel, "sample", waits)
    one.generate()
    assert len(calls) == 5


def run_again_from_parts(run, monkeypatch, *, keep, resampled):
    """Interrupt a fresh job after `keep` batches, then count the batches that the next job samples."""
    shutil.rmtree(run.round_folder / "videos")
    calls = []
    sample = WanModel.sample

    def counted(self, *args):
        calls.append(1)
        if len(calls) > keep:
            raise KeyboardInterrupt
        return sample(self, *args)

    monkeypatch.setattr(WanModel, "sample", counted)
    with pytest.raises(KeyboardInterrupt):
        run.generate()
    again = []
    monkeypatch.setattr(WanModel, "sample", lambda self, *args: again.append(1) or sample(self, *args))
    run.generate()
    assert len(again) == resampled


@pytest.fixture
def poisoned(monkeypatch):
    """One value of each batch's first latents is NaN, until `poisoned.undo()`."""
    sample = WanModel.sample

    def spoilt(self, *args):
        latents = sample(self, *args)
        latents[0, 0, 0, 0, 0] = torch.nan
        return latents

    with monkeypatch.context() as patch:
        patch.setattr(WanModel, "sample", spoilt)
        yield patch


def test_a_model_that_gives_nan_makes_failed_rows_and_stops_above_the_limit(stages, small_config, poisoned):
    with pytest.raises(RuntimeError, match=r"max_failed_fraction is 0\.02"):
        made(stages, small_config)
    run = made(stages, small_config, max_failed_fraction=0.5)
    videos = read_shards(run.round_folder / "videos")
    failed = videos[videos["status"] == "failed"]
    assert len(failed) == 5
    assert failed["error"].str.contains("NaN").all()
    assert failed[["path", "sha256", "latents"]].isna().all().all()


def test_a_changed_setting_makes_new_videos_in_the_same_folder(one, stages, small_config):
    base = small_config()["generate"]
    changed = base | {"sampling": base["sampling"] | {"num_steps": 3}}
    other = made(stages, small_config, generate=changed)
    assert other.folder == one.folder
    assert len(list((other.round_folder / "videos" / "clips").rglob("*.mp4"))) == 18


def test_clips_that_failed_are_tried_again(stages, small_config, poisoned):
    with pytest.raises(RuntimeError, match="max_failed_fraction"):
        made(stages, small_config)
    poisoned.undo()
    assert (read_shards(made(stages, small_config).round_folder / "videos")["status"] == "ok").all()


def test_shards_that_fail_one_after_the_other_stop_the_run(stages, small_config, monkeypatch):
    """18 clips in shards of one block of 8: one failed shard is below the limit of a half, two exceed it."""
    from videodpo.stages.generate.sample import generate_shard

    sample = WanModel.sample
    monkeypatch.setattr(WanModel, "sample", lambda self, *args: sample(self, *args) * torch.nan)
    base = small_config()["generate"]
    run = stages(small_config(generate=base | {"shards": 3}, max_failed_fraction=0.5))
    run.prompts()
    generate_shard(run.snapshot("generate"), 1, 0, None)
    with pytest.raises(RuntimeError, match="generate: 16 of 18 clips failed"):
        generate_shard(run.snapshot("generate"), 1, 1, None)


def test_each_text_is_encoded_once(stages, small_config, monkeypatch):
    """Three clips per prompt in batches of one, with guidance: six prompts, the empty one and the negative one."""
    texts = []
    encode = WanModel.encode_prompt
    monkeypatch.setattr(WanModel, "encode_prompt", lambda self, text: texts.append(text) or encode(self, text))
    base = small_config()["generate"]
    sampling = base["sampling"] | {"batch_size": 1, "guidance_scale": 2.0, "negative_prompt": "still"}
    run = made(stages, small_config, generate=base | {"sampling": sampling})
    assert len(read_shards(run.round_folder / "videos")) == 18
    assert len(texts) == len(set(texts)) == 8


def test_the_text_encoder_is_freed_before_the_denoiser_is_loaded(stages, small_config, monkeypatch):
    import weakref

    encoders, loaded, load = [], [], WanModel.__init__

    def seen(self, *args, **options):
        loaded.append((options["parts"], [encoder() for encoder in encoders]))
        load(self, *args, **options)
        if self.pipe.text_encoder is not None:
            encoders.append(weakref.ref(self.pipe.text_encoder))

    monkeypatch.setattr(WanModel, "__init__", seen)
    made(stages, small_config)
    assert loaded == [({"text"}, []), ({"denoiser", "vae"}, [None])]


def test_a_stopped_job_re_encodes_no_prompt(one, monkeypatch):
    """The next job finds the encodings of all batches, and loads no text encoder."""
    shutil.rmtree(one.round_folder / "videos")
    sample, encoded = WanModel.sample, []

    def stops(self, *args):
        raise KeyboardInterrupt

    monkeypatch.setattr(WanModel, "sample", stops)
    with pytest.raises(KeyboardInterrupt):
        one.generate()
    monkeypatch.setattr(WanModel, "sample", sample)
    monkeypatch.setattr(WanModel, "encode_prompt", lambda self, text: encoded.append(text))
    one.generate()
    assert encoded == []
