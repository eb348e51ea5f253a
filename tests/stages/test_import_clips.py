"""Clips of the user's own instead of sampled ones."""

import random

import numpy as np
import pytest

from videodpo.config import Sampling
from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.render import render
from videodpo.models.shared.prompt_embeds import EMPTY, NEGATIVE, CachedTexts
from videodpo.stages.generate.import_clips import fit_frames, import_shard, nearest_size
from videodpo.storage.tables import read_shards, read_table
from videodpo.storage.video import UnreadableVideo, read_mp4, write_mp4


@pytest.fixture
def own_clips(tmp_path):
    """A folder with a list of clips: 4 prompts, 2 clips each, one file that is no video."""
    rng = random.Random(0)
    lines = ["path,prompt"]
    (tmp_path / "mine").mkdir()
    for number in range(4):
        scene = random_scene(rng)
        for take in range(2):
            write_mp4(tmp_path / "mine" / f"{number}_{take}.mp4", render(scene, rng)[:5], 8.0)
            lines.append(f'{number}_{take}.mp4,"{scene.caption}"')
    (tmp_path / "mine" / "list.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "mine"


def taken_in(stages, small_config, folder, **changes):
    source = {"kind": "clips", "path": str(folder / "list.csv")}
    prompts = {"source": source, "num_train": None, "num_heldout": 1, "near_duplicate_threshold": 1.0}
    run = stages(small_config(prompts=prompts, **changes))
    run.prompts()
    for shard in range(run.config.generate.shards):
        import_shard(run.snapshot("generate"), 1, shard)
    return run


def test_own_clips_become_videos_with_latents_and_then_pairs(stages, small_config, own_clips):
    run = taken_in(stages, small_config, own_clips)
    videos = read_shards(run.round_folder / "videos")
    assert len(videos) == 6
    assert (videos["status"] == "ok").all()
    assert videos["latents"].notna().all()
    run.score()
    run.pairs()
    assert (run.round_folder / "pairs.parquet").exists()


def test_the_prompts_of_own_clips_are_stored_encoded(stages, small_config, own_clips):
    from videodpo.models.wan import WanModel

    run = taken_in(stages, small_config, own_clips)
    cached, model = CachedTexts(run.round_folder), WanModel(run.config.model, "cpu")
    prompts = read_table(run.folder / "prompts.parquet").query("split == 'train'")
    words = dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True)) | {EMPTY: "", NEGATIVE: ""}
    assert len(words) == 5
    for prompt_id, prompt in words.items():
        assert cached.of(prompt_id)["prompt_embeds"].equal(model.encode_prompt(prompt)["prompt_embeds"])


def test_a_clip_of_another_length_is_a_failed_row(stages, small_config, own_clips):
    rng = random.Random(1)
    for clip in own_clips.glob("*_1.mp4"):
        write_mp4(clip, render(random_scene(rng), rng), 8.0)  # 9 frames
    run = taken_in(stages, small_config, own_clips, max_failed_fraction=0.6)
    failed = read_shards(run.round_folder / "videos").query("status == 'failed'")
    assert len(failed) == 3
    assert failed["error"].str.contains(r"9 frames of 32 x 32 at 8 a second, generate\.sampling").all()


def test_a_file_that_is_no_video_is_a_failed_row(stages, small_config, own_clips):
    for clip in own_clips.glob("*_0.mp4"):
        clip.write_text("not a video")
    run = taken_in(stages, small_config, own_clips, max_failed_fraction=0.6)
    assert len(read_shards(run.round_folder / "videos").query("status == 'failed'")) == 3


def test_a_clip_that_the_encoder_spoils_is_a_failed_row(stages, small_config, own_clips, monkeypatch):
    from videodpo.models.wan import WanModel

    encode = WanModel.encode
    monkeypatch.setattr(WanModel, "encode", lambda self, frames: encode(self, frames) * float("nan"))
    with pytest.raises(RuntimeError, match=r"6 of 6 clips failed(?s:.*)the VAE gave NaN or infinite latents"):
        taken_in(stages, small_config, own_clips)


def test_clips_of_other_sizes_and_lengths_are_cut_and_scaled_when_asked(stages, small_config, own_clips):
    rng = random.Random(1)
    for clip in own_clips.glob("*_1.mp4"):
        frames = render(random_scene(rng), rng)  # 9 frames
        write_mp4(clip, frames.repeat(2, axis=1).repeat(3, axis=2), 8.0)
    run = taken_in(stages, small_config, own_clips, generate={"fit_clips": True})
    videos = read_shards(run.round_folder / "videos")
    assert (videos["status"] == "ok").all()
    assert (videos[["num_frames", "height", "width"]] == (5, 32, 32)).all(axis=None)
    for path in videos["path"]:
        assert read_mp4(run.folder / path)[0].shape == (5, 32, 32, 3)


def test_a_clip_of_another_rate_is_a_failed_row_unless_it_may_be_fitted(stages, small_config, own_clips):
    rng = random.Random(1)
    for clip in own_clips.glob("*_1.mp4"):
        write_mp4(clip, render(random_scene(rng), rng)[:5], 16.0)
    run = taken_in(stages, small_config, own_clips, max_failed_fraction=0.6)
    failed = read_shards(run.round_folder / "videos").query("status == 'failed'")
    assert failed["error"].str.contains("at 16 a second, generate").tolist() == [True] * 3


BUCKETS = {"buckets": [{"num_frames": 9, "height": 64, "width": 32}, {"num_frames": 5, "height": 32, "width": 64}]}


def other_sizes(own_clips):
    """Of each prompt, the second clip is tall and long."""
    rng = random.Random(1)
    for clip in own_clips.glob("*_1.mp4"):
        write_mp4(clip, render(random_scene(rng), rng).repeat(2, axis=1), 8.0)


def with_buckets(small_config, **changes):
    base = small_config()["generate"]
    return {"generate": base | {"sampling": base["sampling"] | BUCKETS} | changes}


def test_own_clips_of_several_sizes_keep_their_sizes_and_are_not_paired(stages, small_config, own_clips):
    other_sizes(own_clips)
    run = taken_in(stages, small_config, own_clips, **with_buckets(small_config))
    videos = read_shards(run.round_folder / "videos").set_index("video_id")
    assert (videos["status"] == "ok").all()
    found = list(videos[["num_frames", "height", "width"]].itertuples(index=False, name=None))
    assert found == [(5, 32, 32), (9, 64, 32)] * 3
    run.score()
    with pytest.raises(ValueError, match=r"none left of 0 candidates \(3 x too few scored videos of 5 x 32 x 32 \(1\)"):
        run.pairs()


def test_a_clip_of_none_of_the_sizes_is_a_failed_row_that_names_them_all(stages, small_config, own_clips):
    rng = random.Random(1)
    for clip in own_clips.glob("*_1.mp4"):
        write_mp4(clip, render(random_scene(rng), rng), 8.0)
    run = taken_in(stages, small_config, own_clips, max_failed_fraction=0.6, **with_buckets(small_config))
    failed = read_shards(run.round_folder / "videos").query("status == 'failed'")
    assert len(failed) == 3
    said = (
        r"9 frames of 32 x 32 at 8 a second, generate\.sampling asks for 5 of 32 x 32 or 9 of 64 x 32 or 5 of 32 x 64"
    )
    assert failed["error"].str.contains(said).all()


def test_a_clip_is_fitted_to_the_size_of_its_proportions(stages, small_config, own_clips):
    rng = random.Random(1)
    for clip in own_clips.glob("*_1.mp4"):
        write_mp4(clip, render(random_scene(rng), rng).repeat(2, axis=1).repeat(5, axis=2), 8.0)  # 64 x 160
    run = taken_in(stages, small_config, own_clips, **with_buckets(small_config, fit_clips=True))
    videos = read_shards(run.round_folder / "videos")
    assert (videos["status"] == "ok").all()
    assert videos["width"].tolist() == [32, 64] * 3
    assert read_mp4(run.folder / videos["path"][1])[0].shape == (5, 32, 64, 3)


def sampling(**changes):
    return Sampling(**({"num_frames": 4, "height": 16, "width": 32, "fps": 10.0} | changes))


def test_fitting_takes_the_frames_that_lie_at_the_wanted_times():
    frames = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(32, 2).repeat(3, 3)
    assert fit_frames(frames, 20.0, sampling(), "a.mp4")[:, 0, 0, 0].tolist() == [0, 2, 4, 6]
    assert fit_frames(frames, 5.0, sampling(), "a.mp4")[:, 0, 0, 0].tolist() == [0, 1, 1, 2]


def test_fitting_keeps_the_middle_and_its_proportions():
    tall = np.zeros((4, 64, 32, 3), np.uint8)
    tall[:, 24:40] = 200  # the middle quarter, which has the wanted shape
    assert (fit_frames(tall, 10.0, sampling(), "a.mp4") == 200).all()


def test_a_clip_that_is_too_short_cannot_be_fitted():
    frames = np.zeros((6, 16, 32, 3), np.uint8)
    with pytest.raises(UnreadableVideo, match=r"a\.mp4: 6 frames at 20 a second are too short for 4 at 10"):
        fit_frames(frames, 20.0, sampling(), "a.mp4")


def clip_of(num_frames, height, width):
    return np.zeros((num_frames, height, width, 3), np.uint8)


def test_the_nearest_size_is_that_of_the_nearest_ratio():
    wide, square, tall = sampling(), sampling(height=32), sampling(height=32, width=16)
    sizes = [wide, square, tall]
    assert nearest_size(clip_of(4, 90, 160), 10.0, sizes) is wide
    assert nearest_size(clip_of(4, 100, 130), 10.0, sizes) is square
    assert nearest_size(clip_of(4, 160, 90), 10.0, sizes) is tall


def test_of_sizes_with_one_ratio_the_longest_that_the_clip_fills_is_the_nearest():
    sizes = [sampling(), sampling(num_frames=9, height=32, width=64), sampling(num_frames=16, height=32, width=64)]
    assert nearest_size(clip_of(12, 16, 32), 10.0, sizes) is sizes[1]
    assert nearest_size(clip_of(12, 16, 32), 20.0, sizes) is sizes[0]
    assert nearest_size(clip_of(2, 16, 32), 10.0, sizes) is sizes[0]


def test_of_sizes_as_near_as_each_other_the_first_is_taken():
    sizes = [sampling(), sampling(height=32, width=16)]
    assert nearest_size(clip_of(4, 50, 50), 10.0, sizes) is sizes[0]
    assert nearest_size(clip_of(4, 50, 50), 10.0, sizes[::-1]) is sizes[1]
