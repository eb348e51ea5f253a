"""Times the scoring of VBench's eight dimensions against a plain loop, both in one run.

    python bench/scoring.py [--clips 24] [--frames 16] [--height 320] [--width 512] [--device auto] --out FILE

The plain loop takes one clip and one dimension at a time, decodes the clip for each dimension, and calls every network
as the benchmark's own code does: DINO, MUSIQ, AMT-S and RAFT on one frame or pair at a time, CLIP on all frames of a
clip, and flow for all pairs. No library has AMT-S, so the loop uses ours with torchvision's correlations. The two arms
alternate by dimension and block, so that a slow phase of the machine affects both. Peak memory is that of one process
per arm, over the first two clips. On a GPU, all clips are then scored once more as in the pipeline: all dimensions
together, with clips decoded ahead in threads.

Weights are random, which takes as long as trained ones. The frames that dynamic degree may skip depend on the motion,
which random weights cannot measure. Therefore every second clip moves, and RAFT's results are computed and then
replaced by the true motion.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import timm
import torch
import torch.nn.functional as F
from machine import machine
from plain_amt import PlainAmtS
from pyiqa.archs.musiq_arch import MUSIQ
from safetensors.torch import load_file, save_file
from torchvision.models.optical_flow import raft_large

from videodpo.runtime import registry
from videodpo.runtime.device import choose_device
from videodpo.runtime.sharding import SCORED_TOGETHER
from videodpo.scorers.base import Clip, Scorer
from videodpo.scorers.networks.amt import AmtS
from videodpo.scorers.networks.clip import standard
from videodpo.scorers.shared.backbone import Backbone, NetworkScorer, score_clips
from videodpo.scorers.shared.crops import square_crops
from videodpo.scorers.shared.flow_steps import MULTIPLE, UPDATES, sampled_frames
from videodpo.scorers.shared.middle_frames import middle_frames
from videodpo.scorers.shared.padding import pad_to_multiples
from videodpo.stages.score.read_ahead import Wanted, read_ahead, read_clip
from videodpo.storage.files import write_json
from videodpo.storage.tables import commit
from videodpo.storage.video import write_mp4

FPS, PAN = 8.0, 0.04  # PAN: motion of the moving clips, in shorter sides per frame; the threshold is 0.0234
CLIPS = {"clip_b": "ViT-B-32-quickgelu", "clip_l": "ViT-L-14-quickgelu"}
Network = Callable[[Clip], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--height", type=int, default=320)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--peak-memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="weights and clips of an earlier call")
    parser.add_argument("--arm", choices=("plain", "ours"), help="one arm on two clips: for its peak memory")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not arguments.folder:
            write_weights(folder, choose_device(arguments.device))
            write_clips(folder, arguments)
        paths = [folder / f"{number}.mp4" for number in range(arguments.clips)]
        if arguments.arm:
            _one_arm(arguments, folder, paths[:2])
        else:
            write_json(arguments.out, _compare(arguments, folder, paths))
            print(arguments.out.read_text(encoding="utf-8"))


def _compare(arguments: argparse.Namespace, folder: Path, paths: Sequence[Path]) -> dict[str, Any]:
    device = choose_device(arguments.device)
    scorers = make_scorers(weight_files(folder), device)
    plain = _plain_networks(folder, device)
    asked = _count_pairs(scorers["dynamic_degree"])
    seconds: dict[str, dict[str, float]] = {"plain": defaultdict(float), "ours": defaultdict(float)}
    _warm_up(plain, scorers, paths[0])
    asked.clear()
    for start in range(0, len(paths), SCORED_TOGETHER):
        block = paths[start : start + SCORED_TOGETHER]
        begun = time.perf_counter()
        with read_ahead([_wanted(path) for path in block]) as read:
            clips = [clip for clip in read if isinstance(clip, Clip)]
        seconds["ours"]["decoding"] += time.perf_counter() - begun
        for name, network in plain.items():
            begun = time.perf_counter()
            for path in block:
                network(_read(path))
            wait(device)
            turn = time.perf_counter()
            score_clips([scorers[name]], clips)
            wait(device)
            seconds["plain"][name] += turn - begun
            seconds["ours"][name] += time.perf_counter() - turn
        done = start + len(block)
        pairs = done * (len(sampled_frames(_read(paths[0]))) - 1)
        result = _result(arguments, device, seconds, done) | {"flow_pairs": {"plain": pairs, "ours": len(asked)}}
        write_json(arguments.out, result)
        print(f"{done} of {len(paths)} clips: {result['ratio_total']} times as fast", file=sys.stderr, flush=True)
    if device != "cpu":
        together = _together(list(scorers.values()), paths, device)
        result["together"] = {"seconds": round(together, 2), "clips_a_second": round(len(paths) / together, 2)}
    if arguments.peak_memory:
        result["peak_memory_mb"] = {arm: _peak_memory(arguments, folder, arm) for arm in ("plain", "ours")}
    return result


def _together(scorers: Sequence[Scorer], paths: Sequence[Path], device: str) -> float:
    """Seconds for all clips, in blocks as `videodpo score` takes them; the median of three times."""
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        with read_ahead([_wanted(path) for path in paths]) as clips:
            for start in range(0, len(paths), SCORED_TOGETHER):
                block = [next(clips) for _ in paths[start : start + SCORED_TOGETHER]]
                score_clips(scorers, [clip for clip in block if isinstance(clip, Clip)])
        wait(device)
        seconds.append(time.perf_counter() - begun)
    return sorted(seconds)[1]


def _result(
    arguments: argparse.Namespace, device: str, seconds: dict[str, dict[str, float]], num_clips: int
) -> dict[str, Any]:
    plain, ours = seconds["plain"], seconds["ours"]
    totals = {arm: sum(parts.values()) for arm, parts in seconds.items()}
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit(),
        "machine": machine(device),
        "clips": f"{num_clips} of {arguments.frames} frames, {arguments.height} x {arguments.width}",
        "seconds": {arm: {name: round(value, 2) for name, value in parts.items()} for arm, parts in seconds.items()},
        "ratio": {name: round(value / ours[name], 2) for name, value in plain.items()},
        "ratio_total": round(totals["plain"] / totals["ours"], 2),
        "clips_a_second": {arm: round(num_clips / total, 3) for arm, total in totals.items()},
    }


def _one_arm(arguments: argparse.Namespace, folder: Path, paths: Sequence[Path]) -> None:
    device = choose_device(arguments.device)
    if arguments.arm == "plain":
        for network in _plain_networks(folder, device).values():
            for path in paths:
                network(_read(path))
    else:
        scorers = make_scorers(weight_files(folder), device)
        with read_ahead([_wanted(path) for path in paths]) as clips:
            score_clips(list(scorers.values()), [clip for clip in clips if isinstance(clip, Clip)])
    # A process inherits ru_maxrss from its parent on Linux, but not this value.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = {"host": int(status.split("VmHWM:")[1].split()[0]) // 1024}
    if device != "cpu":
        peak["device"] = torch.cuda.max_memory_allocated() // 2**20
    write_json(arguments.out, peak)


def _peak_memory(arguments: argparse.Namespace, folder: Path, arm: str) -> dict[str, int]:
    out = folder / f"{arm}.json"
    options = [f"--{name}={getattr(arguments, name)}" for name in ("clips", "frames", "height", "width", "device")]
    subprocess.run(
        [sys.executable, __file__, *options, f"--out={out}", f"--folder={folder}", f"--arm={arm}"], check=True
    )
    peak: dict[str, int] = json.loads(out.read_text(encoding="utf-8"))
    return peak


def make_scorers(files: Mapping[str, Path], device: str) -> dict[str, Scorer]:
    """The eight scorers, from the weights of each network as `write_weights` names them."""
    networks = {
        "temporal_flickering": None,
        "subject_consistency": "dino",
        "background_consistency": "clip_b",
        "motion_smoothness": "amt",
        "dynamic_degree": "raft",
        "aesthetic_quality": ["clip_l", "head"],
        "imaging_quality": "musiq",
        "overall_consistency": "viclip",
    }
    scorers = {}
    for name, named in networks.items():
        kind = registry.load("videodpo.scorers", name)
        paths = [str(files[network]) for network in ([named] if isinstance(named, str) else named or [])]
        options = {} if named is None else {"weights": paths if isinstance(named, list) else paths[0]}
        scorers[name] = kind(kind.Options(**options), device)
    return scorers


def _plain_networks(folder: Path, device: str) -> dict[str, Network]:
    """The libraries' unchanged networks, called for one clip and one dimension at a time."""

    def network(name: str, made: torch.nn.Module) -> Any:
        made.load_state_dict(load_file(folder / f"{name}.safetensors"))
        return made.to(device).eval().requires_grad_(False)

    def frames(clip: Clip) -> torch.Tensor:
        return torch.from_numpy(clip.frames_THWC).to(device).permute(0, 3, 1, 2)

    dino = network("dino", timm.create_model("vit_base_patch16_224.dino", num_classes=0, dynamic_img_size=True))
    clip_b, clip_l = (network(name, _clip(architecture)) for name, architecture in CLIPS.items())
    amt, raft = network("amt", PlainAmtS()), network("raft", raft_large(weights=None))
    musiq = network("musiq", MUSIQ(pretrained=False))
    viclip, places_1TD = network("clip_l", _clip(CLIPS["clip_l"])), torch.randn(1, 8, 1024, device=device)

    def flickering(clip: Clip) -> float:
        floats = clip.frames_THWC.astype(np.float32)
        return float(np.mean([np.mean(np.abs(after - before)) for before, after in pairwise(floats)]))

    def subject(clip: Clip) -> list[torch.Tensor]:
        height, width = clip.frames_THWC.shape[1:3]
        size = [int(224 * side / min(height, width)) // 16 * 16 for side in (height, width)]
        pixels = standard(F.interpolate(frames(clip).float(), size, mode="bilinear") / 255)
        return [dino(frame[None]).cpu() for frame in pixels]

    def smoothness(clip: Clip) -> list[torch.Tensor]:
        padded, _ = pad_to_multiples(frames(clip)[::2].float() / 255, 16)
        return [amt(before[None], after[None]).cpu() for before, after in pairwise(padded)]

    def flow(clip: Clip) -> list[torch.Tensor]:
        padded, _ = pad_to_multiples(frames(clip)[:: max(1, round(clip.fps / 8))].float(), MULTIPLE)
        scaled = 2 * (padded / 255) - 1
        return [
            raft(before[None], after[None], num_flow_updates=UPDATES)[-1].cpu() for before, after in pairwise(scaled)
        ]

    def overall(clip: Clip) -> torch.Tensor:
        tower = viclip.visual
        crops = square_crops(frames(clip)[middle_frames(len(clip.frames_THWC))], 224, rounded=True)
        patches = tower.conv1(standard(crops)).flatten(2).transpose(1, 2) + tower.positional_embedding[1:]
        patches = patches.transpose(0, 1) + places_1TD
        first = tower.class_embedding + tower.positional_embedding[0]
        states = tower.transformer(tower.ln_pre(torch.cat([first[None], patches.flatten(0, 1)])[None]))
        viclip.encode_text(open_clip.tokenize([clip.prompt]).to(device))
        return (tower.ln_post(states[:, 0]) @ tower.proj).cpu()

    def embeddings(tower: Any, clip: Clip) -> torch.Tensor:
        return tower.encode_image(standard(square_crops(frames(clip), 224)), normalize=True).cpu()

    networks: dict[str, Network] = {
        "temporal_flickering": flickering,
        "subject_consistency": subject,
        "background_consistency": partial(embeddings, clip_b),
        "motion_smoothness": smoothness,
        "dynamic_degree": flow,
        "aesthetic_quality": partial(embeddings, clip_l),
        "imaging_quality": lambda clip: [musiq(frame[None] / 255).item() for frame in frames(clip)],
        "overall_consistency": overall,
    }
    return {name: torch.no_grad()(network) for name, network in networks.items()}


def _clip(architecture: str) -> torch.nn.Module:
    return open_clip.CLIP(**open_clip.get_model_config(architecture))


def _count_pairs(scorer: Scorer) -> list[int]:
    """Make the backbone return the clips' true motion, and record every pair that it is called for.

    On a GPU, steps near the threshold are computed twice; which ones still depends on the random weights.
    """
    backbone, asked = _backbone(scorer), list[int]()
    real = backbone.answer

    def answer(parts: Any) -> list[float]:
        real(parts)
        asked.extend(number for _, number in parts)
        return [PAN if clip.prompt == "moves" else 0.0 for clip, _ in parts]

    backbone.answer = answer  # type: ignore[method-assign]
    return asked


def _backbone(scorer: Scorer) -> Backbone:
    assert isinstance(scorer, NetworkScorer)
    return scorer.backbone


def _warm_up(plain: dict[str, Network], scorers: dict[str, Scorer], path: Path) -> None:
    """Run every network once: compiling kernels and mapping memory happen once per process and are not timed."""
    clip = _read(path)
    short = Clip(clip.frames_THWC[:3], clip.fps, clip.prompt)
    for name, network in plain.items():
        network(short)
        score_clips([scorers[name]], [short])


def write_weights(folder: Path, device: str) -> dict[str, Path]:
    """Write random weights, drawn on the device; return the file of each network."""
    torch.manual_seed(0)
    with torch.device(device):
        clips = {name: _clip(architecture) for name, architecture in CLIPS.items()}
        networks = {
            "dino": timm.create_model("vit_base_patch16_224.dino", num_classes=0),
            "amt": AmtS(),
            "raft": raft_large(weights=None),
            "musiq": MUSIQ(pretrained=False),
            "head": torch.nn.Linear(768, 1),
            **clips,
        }
    for name, network in networks.items():
        save_file(
            {key: value.contiguous() for key, value in network.state_dict().items()}, folder / f"{name}.safetensors"
        )
    viclip = {"vision_encoder.temporal_positional_embedding": torch.randn(1, 8, 1024, device=device)}
    for key, value in clips["clip_l"].state_dict().items():
        if key != "logit_scale":
            viclip[
                key.replace("visual.", "vision_encoder.") if key.startswith("visual.") else f"text_encoder.{key}"
            ] = value
    viclip["text_encoder.positional_embedding"] = viclip["text_encoder.positional_embedding"][:32]
    save_file({key: value.contiguous() for key, value in viclip.items()}, folder / "viclip.safetensors")
    return weight_files(folder)


def weight_files(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in folder.glob("*.safetensors")}


def write_clips(folder: Path, arguments: argparse.Namespace) -> None:
    """Write textured scenes of blocks and noise; every second one pans by PAN per frame."""
    draw = np.random.default_rng(0)
    height, width = arguments.height, arguments.width
    step = round(PAN * min(height, width))
    for number in range(arguments.clips):
        wide = width + step * arguments.frames
        scene = draw.integers(0, 200, (height // 16 + 1, wide // 16 + 1, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        scene = scene + draw.integers(0, 55, scene.shape, dtype=np.uint8)
        moved = step * (number % 2)
        frames = [scene[:height, moved * k : moved * k + width] for k in range(arguments.frames)]
        write_mp4(folder / f"{number}.mp4", np.stack(frames), FPS)


def _wanted(path: Path) -> Wanted:
    return Wanted(path, "moves" if int(path.stem) % 2 else "stands", num_bytes=0)


def _read(path: Path) -> Clip:
    clip = read_clip(_wanted(path))
    assert isinstance(clip, Clip)
    return clip


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
