"""Times the sampling of the demo's videos, and a plain loop over diffusers' pipeline in the same run.

    python bench/generate.py [--prompts 16] [--videos 4] [--turns 3] [--device auto] --out FILE

The plain loop calls the pipeline once per video, with the prompt as text, lets it decode, and writes an MP4. Ours is
the stage itself, with the demo's settings (presets/demo.yaml): batches contain several prompts, every prompt is encoded
once, clips are written while the next batch is sampled, and latents, texts and table are written as well. Model,
starting noise, MP4 encoder and threads are the same; loading the model is not timed. The two alternate, with new
prompts and noise in each turn, so that a slow phase of the machine affects both.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from diffusers import WanPipeline
from machine import machine
from safetensors import safe_open

import videodpo.stages.generate.sample
from videodpo.config import Config, Sampling, parse_config
from videodpo.config.loading import read_config
from videodpo.models import load_model
from videodpo.models.shared.pipeline_model import PipelineModel
from videodpo.runtime.device import choose_device
from videodpo.runtime.settings import GenerateSettings
from videodpo.runtime.snapshot import Snapshot, load_snapshot, snapshot_text, write_snapshot
from videodpo.stages.prompts.stage import make_prompts
from videodpo.storage.files import write_json
from videodpo.storage.tables import commit, read_shards, read_table
from videodpo.storage.video import write_mp4

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=16, help="prompts per turn")
    parser.add_argument("--videos", type=int, default=4, help="videos per prompt")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--batch-size", type=int, help="clips per batch of ours; by default the preset's")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.out = arguments.out.resolve()
    os.chdir(ROOT)  # the preset's path of the bundled model is relative to it
    device = choose_device(arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        configs = [_config(Path(folder), arguments, turn) for turn in range(arguments.turns + 1)]
        write_json(arguments.out, _compare(configs, device))
    print(arguments.out.read_text(encoding="utf-8"))


def _config(folder: Path, arguments: argparse.Namespace, turn: int) -> Config:
    """The demo with another seed in each turn. The first turn is short and not timed: it warms the process up."""
    settings = {
        "run": f"turn{turn}",
        "results": folder,
        "seed": turn,
        "device": arguments.device,
        "prompts.num_train": arguments.prompts if turn else 1,
        "prompts.num_heldout": 1,
        "generate.shards": 1,
        "generate.videos_per_prompt": arguments.videos,
    }
    if arguments.batch_size:
        settings["generate.sampling.batch_size"] = arguments.batch_size
    lines = [f"{key}={value}" for key, value in settings.items()]
    return parse_config(read_config(Path("config.yaml"), [Path("presets/demo.yaml")], lines))


def _compare(configs: list[Config], device: str) -> dict[str, Any]:
    first, sampling = configs[0], configs[0].generate.sampling
    pipe = WanPipeline.from_pretrained(first.model.weights, dtype=torch.float32).to(device)
    pipe.set_progress_bar_config(disable=True)
    model = load_model(first.model, device)
    assert isinstance(model, PipelineModel)
    videodpo.stages.generate.sample.load_model = lambda *_, **__: model
    turns = []
    for config in configs:
        snapshot = _prepared(config)
        begun = time.perf_counter()
        with _timed(model, device) as denoising:
            videodpo.stages.generate.sample.generate_shard(snapshot, 1, 0, None)
        seconds = {"ours": time.perf_counter() - begun}
        videos = read_shards(snapshot.folder / "round1" / "videos")
        begun = time.perf_counter()
        plain = _plain(pipe, snapshot, videos)
        seconds["plain"] = time.perf_counter() - begun
        difference = max(
            float(np.abs(plain[video] - _pixels(model, snapshot, place)).max())
            for video, place in zip(videos["video_id"], videos["latents"], strict=True)
        )
        turns.append((seconds, denoising, difference, len(videos)))
    counted = turns[1:]
    totals = {arm: sum(seconds[arm] for seconds, *_ in counted) for arm in ("plain", "ours")}
    num_videos = sum(count for *_, count in counted)
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit(),
        "machine": machine(device),
        "videos": f"{num_videos}, {configs[1].generate.videos_per_prompt} per prompt, {sampling.num_frames} frames of "
        f"{sampling.height} x {sampling.width}, {sampling.num_steps} steps, guidance {sampling.guidance_scale:g}",
        "batch_size": {"plain": 1, "ours": sampling.batch_size},
        "seconds": {arm: round(total, 2) for arm, total in totals.items()},
        "ratio": round(totals["plain"] / totals["ours"], 2),
        "ratio_of_each_turn": [round(seconds["plain"] / seconds["ours"], 2) for seconds, *_ in counted],
        "videos_a_second": {arm: round(num_videos / total, 2) for arm, total in totals.items()},
        "denoising_share_of_ours": round(sum(sum(denoising) for _, denoising, *_ in counted) / totals["ours"], 3),
        "largest_difference_of_pixels": max(difference for _, _, difference, _ in counted),
    }


def _prepared(config: Config) -> Snapshot[GenerateSettings]:
    """Write the settings snapshots and draw the prompts."""
    folder = Path(config.results) / config.run
    for stage in ("prompts", "generate", "execution"):
        write_snapshot(snapshot_text(config, stage), folder / "config" / f"{stage}.json")
    make_prompts(load_snapshot(folder / "config" / "prompts.json", "prompts"))
    return load_snapshot(folder / "config" / "generate.json", "generate")


def _plain(pipe: Any, snapshot: Snapshot[GenerateSettings], videos: Any) -> dict[str, np.ndarray]:
    """Sample and write one video at a time; return the frames of each, [T, Y, X, 3] in [0, 1], for the comparison."""
    sampling = snapshot.settings.generate.sampling
    prompts = read_table(snapshot.folder / "prompts.parquet").set_index("prompt_id")["prompt"]
    pixels = {}
    for row in videos.itertuples():
        frames = pipe(
            prompt=prompts[row.prompt_id],
            generator=torch.Generator("cpu").manual_seed(row.seed),
            **_call(sampling),
            max_sequence_length=snapshot.settings.model.max_sequence_length,
        ).frames[0]
        path = snapshot.folder / "plain" / f"{row.video_id}.mp4"
        write_mp4(path, (frames * 255).round().astype(np.uint8), sampling.fps, crf=sampling.crf)
        pixels[row.video_id] = frames
    return pixels


def _call(sampling: Sampling) -> dict[str, Any]:
    return {
        "num_frames": sampling.num_frames,
        "height": sampling.height,
        "width": sampling.width,
        "num_inference_steps": sampling.num_steps,
        "guidance_scale": sampling.guidance_scale,
        "negative_prompt": sampling.negative_prompt,
        "output_type": "np",
    }


@contextmanager
def _timed(model: PipelineModel, device: str) -> Iterator[list[float]]:
    """Seconds of every call of `sample`; on a GPU, they include work queued in between for the previous batch."""
    seconds: list[float] = []
    sample = model.sample

    def timed(*arguments: Any) -> torch.Tensor:
        begun = time.perf_counter()
        latents = sample(*arguments)
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
        return latents

    with patch.object(model, "sample", timed):
        yield seconds


def _pixels(model: PipelineModel, snapshot: Snapshot[GenerateSettings], place: str) -> np.ndarray:
    """Frames decoded from the latents that the stage stored, in the format of `_plain`."""
    file, _, name = place.partition("#")
    with safe_open(snapshot.folder / file, framework="pt") as opened, torch.no_grad():
        decoded = model.decode_raw(model.unscale(opened.get_tensor(name)[None].to(model.device)))
    pixels: np.ndarray = decoded[0].permute(1, 2, 3, 0).clamp(-1, 1).cpu().numpy()
    return (pixels + 1) / 2


if __name__ == "__main__":
    main()
