"""The user's own clips instead of sampled ones."""

import random
from fractions import Fraction

import av
import numpy as np
import pytest

from videodpo.config import Sampling
from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.render import render
from videodpo.models.shared.prompt_embeds import EMPTY, NEGATIVE, CachedTexts
from videodpo.models.wan import WanModel
from videodpo.stages.generate.fitting import fit_frames, nearest_size
from videodpo.stages.generate.import_clips import import_shard
from videodpo.storage.tables import read_shards, read_table
from videodpo.storage.video import Film, UnreadableVideo, read_film, read_mp4, write_mp4


def moving(num_frames, height, width):
    """A white bar that moves down by two rows per frame, on grey."""
    frames = np.full((num_frames, height, width, 3), 60, np.uint8)
    for number, frame in enumerate(frames):
        frame[2 * number + 4 : 2 * number + 12] = 240
    return frames


def positions(frames):
    """Row of the bar in each frame of `moving`, from its first row."""
    return [int(np.argmax(frame[:, 5, 0] > 150)) - 4 for frame in frames]


def encode(path, frames, codec="libx264", pixels="yuv420p", times=None, pixel_shape=None, box_format=None):
    """Encode with any codec and pixel format at 8 frames per second; `times` in hundredths of a second."""
    with av.open(f"file:{path}", "w", format=box_format) as box:
        stream = box.add_stream(codec, rate=8)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        if pixel_shape:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        if times:
            stream.codec_context.time_base = Fraction(1, 100)
        for number, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            if times:
                frame.time_base, frame.pts = Fraction(1, 100), times[number]
            box.mux(stream.encode(frame))
        box.mux(stream.encode())
    return path


@pytest.fixture
def own_clips(tmp_path):
    """A folder with a list of clips: 4 prompts with 2 clips each; one file is not a video."""
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
    run = taken_in(stages, small_config, own_clips)
    cached, model = CachedTexts(run.round_folder), WanModel(run.config.model, "cpu")
    prompts = read_table(run.folder / "prompts.parquet").query("split == 'train'")
    words = dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True)) | {EMPTY: "", NEGATIVE: ""}
    assert len(words) == 5
    for prompt_id, prompt in words.items():
        assert cached.of(prompt_id)["prompt_embeds"].equal(model.encode_prompt(prompt)["prompt_embeds"])


UNFIT = {
    "another length": (
        lambda clip: write_mp4(clip, moving(9, 32, 32), 8.0),
        r"9 frames of 32 x 32 at 8 fps, generate\.sampling",
    ),
    "another rate": (lambda clip: write_mp4(clip, moving(5, 32, 32), 16.0), "at 16 fps, generate"),
    "uneven times": (
        lambda clip: encode(clip, moving(5, 32, 32), times=[0, 2, 4, 6, 50]),
        "at 8 fps on average, with a variable frame rate, generate",
    ),
    "pixels that are not square": (
        lambda clip: encode(clip, moving(5, 32, 32), pixel_shape=Fraction(2)),
        r"_1\.mp4: 5 frames of 32 x 64 at 8 fps \(as a player shows its pixels of 2:1; ffmpeg's filter setsar=1",
    ),
    "no time stamps": (
        lambda clip: encode(clip, moving(5, 32, 32), box_format="h264"),
        "frames without time stamps; put the video into a container",
    ),
    "no video": (lambda clip: clip.write_text("not a video"), "_1"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_clip_that_does_not_fit_is_a_failed_row_with_the_reason(stages, small_config, own_clips, kind):
    write, said = UNFIT[kind]
    for clip in own_clips.glob("*_1.mp4"):
        write(clip)
    run = taken_in(stages, small_config, own_clips, max_failed_fraction=0.6)
    failed = read_shards(run.round_folder / "videos").query("status == 'failed'")
    assert failed["error"].str.contains(said).tolist() == [True] * 3


def test_a_clip_that_the_encoder_spoils_is_a_failed_row(stages, small_config, own_clips, monkeypatch):
    encode = WanModel.encode
    monkeypatch.setattr(WanModel, "encode", lambda self, frames: encode(self, frames) * float("nan"))
    with pytest.raises(RuntimeError, match=r"6 of 6 clips failed(?s:.*)the VAE encoded it to NaN or infinite latents"):
        taken_in(stages, small_config, own_clips)


def test_clips_of_other_sizes_and_lengths_are_trimmed_and_scaled_with_fit_clips(stages, small_config, own_clips):
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


BUCKETS = {"buckets": [{"num_frames": 9, "height": 64, "width": 32}, {"num_frames": 5, "height": 32, "width": 64}]}


def other_sizes(own_clips):
    """The second clip of each prompt is tall and long."""
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


def test_a_clip_of_another_size_is_a_failed_row_that_lists_all_sizes(stages, small_config, own_clips):
    rng = random.Random(1)
    for clip in own_clips.glob("*_1.mp4"):
        write_mp4(clip, render(random_scene(rng), rng), 8.0)
    run = taken_in(stages, small_config, own_clips, max_failed_fraction=0.6, **with_buckets(small_config))
    failed = read_shards(run.round_folder / "videos").query("status == 'failed'")
    assert len(failed) == 3
    said = r"9 frames of 32 x 32 at 8 fps, generate\.sampling asks for 5 of 32 x 32 or 9 of 64 x 32 or 5 of 32 x 64"
    assert failed["error"].str.contains(said).all()


def test_a_clip_is_fitted_to_the_size_nearest_to_its_proportions(stages, small_config, own_clips):
    rng = random.Random(1)
    for clip in own_clips.glob("*_1.mp4"):
        write_mp4(clip, render(random_scene(rng), rng).repeat(2, axis=1).repeat(5, axis=2), 8.0)  # 64 x 160
    run = taken_in(stages, small_config, own_clips, **with_buckets(small_config, fit_clips=True))
    videos = read_shards(run.round_folder / "videos")
    assert (videos["status"] == "ok").all()
    assert videos["width"].tolist() == [32, 64] * 3
    assert read_mp4(run.folder / videos["path"][1])[0].shape == (5, 32, 64, 3)


def test_clips_that_browsers_cannot_play_are_re_encoded_with_the_same_frames(stages, small_config, own_clips):
    made = {
        "0_0.avi": {"codec": "mpeg4"},
        "0_1.mkv": {"codec": "ffv1"},
        "1_0.mov": {"codec": "prores_ks", "pixels": "yuv422p10le"},
        "1_1.mov": {},
        "2_0.mp4": {"codec": "libvpx-vp9"},
        "2_1.mp4": {"pixels": "yuv444p"},
        "3_0.mkv": {},
        "3_1.mp4": {"pixels": "yuv420p10le"},
    }
    lines = ["path,prompt"]
    for number, (name, kind) in enumerate(made.items()):
        encode(own_clips / name, moving(5, 32, 32), **kind)
        lines.append(f"{name},tram number {number // 2} in the rain")
    (own_clips / "list.csv").write_text("\n".join(lines) + "\n")
    run = taken_in(stages, small_config, own_clips, generate={"shards": 1})
    videos = read_shards(run.round_folder / "videos")
    assert (videos["status"] == "ok").all()
    for path in videos["path"]:
        assert read_film(run.folder / path).plays_in_browsers
        assert np.abs(read_mp4(run.folder / path)[0].astype(int) - moving(5, 32, 32)).mean() < 8


def test_an_mp4_that_browsers_play_is_copied_byte_by_byte(stages, small_config, own_clips):
    run = taken_in(stages, small_config, own_clips)
    given = {path.read_bytes() for path in own_clips.glob("*.mp4")}
    assert {(run.folder / path).read_bytes() for path in read_shards(run.round_folder / "videos")["path"]} <= given


def sampling(**changes):
    return Sampling(**({"num_frames": 4, "height": 16, "width": 32, "fps": 10.0} | changes))


def film(frames, times, last_seconds=0.0):
    return Film("a.mp4", frames, 0.0, list(times), last_seconds, Fraction(1), plays_in_browsers=True)


def at_rate(frames, fps):
    return film(frames, np.arange(len(frames)) / fps)


def numbered(num_frames):
    return np.arange(num_frames, dtype=np.uint8)[:, None, None, None].repeat(16, 1).repeat(32, 2).repeat(3, 3)


@pytest.mark.parametrize(("fps", "picked"), [(20.0, [0, 2, 4, 6]), (5.0, [0, 1, 1, 2]), (24000 / 1001, [0, 2, 5, 7])])
def test_fitting_takes_the_frames_nearest_to_the_target_times(fps, picked):
    assert fit_frames(at_rate(numbered(10), fps), sampling())[:, 0, 0, 0].tolist() == picked


def test_fitting_uses_time_stamps_if_the_rate_varies():
    times = [3.0, 3.01, 3.02, 3.1, 3.25, 3.28, 3.6]  # a film need not start at 0
    assert fit_frames(film(numbered(7), times), sampling())[:, 0, 0, 0].tolist() == [0, 3, 4, 5]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_film_that_moves_evenly_moves_evenly_after_fitting(tmp_path, name):
    """12 frames in the first second and 2 in the next: by frame number, the bar would move half as far."""
    times = [*range(0, 100, 8), 150, 199]
    steps = [int(time / 8) for time in times]  # two rows per 0.08 seconds
    frames = moving(steps[-1] + 1, 64, 32)[steps]
    found = fit_frames(read_film(encode(tmp_path / name, frames, times=times)), sampling(height=64, fps=2.0))
    assert positions(found) == pytest.approx([0, 12, 24, 36], abs=2)


def test_time_stamps_in_decoding_order_are_sorted():
    times = [0.1, 0.3, 0.2, 0.4, 0.5]  # as in AVI with H.264
    assert fit_frames(film(numbered(5), times), sampling())[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_time_stamps_that_jump_back_are_refused():
    with pytest.raises(UnreadableVideo, match=r"a\.mp4: its time stamps jump back"):
        fit_frames(film(numbered(8), [0, 1, 2, 3, 0, 1, 2, 3]), sampling())


def test_the_last_frame_is_used_for_half_of_its_display_time():
    times = [0.0, 0.05, 0.1]
    assert fit_frames(film(numbered(3), times, last_seconds=0.5), sampling())[:, 0, 0, 0].tolist() == [0, 2, 2, 2]
    with pytest.raises(UnreadableVideo, match=r"a\.mp4: 3 frames in 0\.15 seconds are too short for 4 at 10 fps"):
        fit_frames(film(numbered(3), times, last_seconds=0.2), sampling())


def test_fitting_keeps_the_middle_and_its_proportions():
    tall = np.zeros((4, 64, 32, 3), np.uint8)
    tall[:, 24:40] = 200  # the middle quarter, which has the target shape
    assert (fit_frames(at_rate(tall, 10.0), sampling()) == 200).all()


def test_a_disk_in_pixels_that_are_not_square_is_round_after_fitting(tmp_path):
    y, x = np.mgrid[0:64, 0:96]
    disk = (((x - 47.5) * 2) ** 2 + (y - 31.5) ** 2 < 24**2) * 255
    frames = np.repeat(disk.astype(np.uint8)[None, ..., None], 3, axis=3).repeat(8, axis=0)
    path = encode(tmp_path / "dvd.mp4", frames, pixel_shape=Fraction(2))
    (shown, *_) = fit_frames(read_film(path), sampling(height=64, width=64, num_frames=4, fps=8.0))[..., 0] > 128
    assert abs(int(shown.any(axis=0).sum()) - int(shown.any(axis=1).sum())) <= 1


def clip_of(num_frames, height, width, fps=10.0):
    return at_rate(np.zeros((num_frames, height, width, 3), np.uint8), fps)


def test_the_nearest_size_is_that_of_the_nearest_ratio():
    wide, square, tall = sampling(), sampling(height=32), sampling(height=32, width=16)
    sizes = [wide, square, tall]
    assert nearest_size(clip_of(4, 90, 160), sizes) is wide
    assert nearest_size(clip_of(4, 100, 130), sizes) is square
    assert nearest_size(clip_of(4, 160, 90), sizes) is tall


def test_of_sizes_with_one_ratio_the_longest_that_the_clip_fills_is_chosen():
    sizes = [sampling(), sampling(num_frames=9, height=32, width=64), sampling(num_frames=16, height=32, width=64)]
    assert nearest_size(clip_of(12, 16, 32), sizes) is sizes[1]
    assert nearest_size(clip_of(12, 16, 32, fps=20.0), sizes) is sizes[0]
    assert nearest_size(clip_of(2, 16, 32), sizes) is sizes[0]


def test_of_equally_near_sizes_the_first_is_chosen():
    sizes = [sampling(), sampling(height=32, width=16)]
    assert nearest_size(clip_of(4, 50, 50), sizes) is sizes[0]
    assert nearest_size(clip_of(4, 50, 50), sizes[::-1]) is sizes[1]
