"""Times the scoring of VBench's sixteen dimensions against a plain loop, both in one run.

    python bench/scoring.py [--dimensions NAME ...] [--clips 24] [--frames 16] [--height 320] [--width 512]
        [--device auto] [--memory-clips 2] --out FILE

The plain loop takes one clip and one dimension at a time, decodes the clip for each dimension, and calls every network
as the benchmark's own code does: DINO, MUSIQ, AMT-S, RAFT, GRiT and the CLIP of appearance style on one frame or pair
at a time, the other CLIP on all frames of a clip, and flow for all pairs. scoring_networks.py says which networks are
whose. The two arms alternate by block of clips within a dimension, so that a slow phase of the machine affects both.
Then all dimensions are scored together, as in the pipeline: networks and features are shared, and clips are decoded
ahead in threads. `ratio_together` is the plain loop's time for all dimensions relative to that.

Peak memory is that of one process per arm: of the plain loop for one clip, and of ours after each block of the first
`--memory-clips` clips, in which it must not grow.

Four clips have one prompt, as in the pipeline: each dimension embeds a prompt once.

Weights are random, which takes as long as trained ones where the work does not depend on them. That of GRiT depends on
the number of boxes, which is in the result, and of words, of which each text has five here. Tag2Text's captions mostly
have all 30 words. The frames that dynamic degree may skip depend on the motion, which random weights cannot measure.
Therefore every second clip moves, and RAFT's results are computed and then replaced by the true motion.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine
from scoring_networks import (
    DIMENSIONS,
    INFO,
    PROMPT,
    Network,
    boxes_per_frame,
    make_scorers,
    plain_network,
    weight_files,
    write_weights,
)

from videodpo.runtime.device import choose_device
from videodpo.runtime.sharding import SCORED_TOGETHER
from videodpo.scorers.base import Clip, Scorer
from videodpo.scorers.shared.backbone import NetworkScorer, score_clips
from videodpo.scorers.shared.flow_steps import sampled_frames
from videodpo.stages.score.read_ahead import Wanted, read_ahead, read_clip
from videodpo.storage.files import write_json
from videodpo.storage.tables import commit
from videodpo.storage.video import write_mp4

CLIPS_PER_PROMPT = 4
FPS, PAN = 8.0, 0.04  # PAN: motion of the moving clips, in shorter sides per frame; the threshold is 0.0234


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", nargs="+", choices=DIMENSIONS, default=DIMENSIONS, metavar="NAME")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--height", type=int, default=320)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--memory-clips", type=int, default=2, help="0: not measured")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="weights and clips of an earlier call")
    parser.add_argument("--arm", choices=("plain", "ours"), help="one arm alone: for its peak memory")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not arguments.folder:
            write_weights(folder, choose_device(arguments.device), arguments.dimensions)
            count = max(arguments.clips, arguments.memory_clips)
            write_clips(folder, count, arguments.frames, arguments.height, arguments.width)
        paths = [folder / f"{number}.mp4" for number in range(arguments.clips)]
        if arguments.arm:
            _one_arm(arguments, folder, paths)
        else:
            result = _compare(arguments, folder, paths)
            if arguments.memory_clips:
                memory = {arm: _peak_memory(arguments, folder, arm) for arm in ("plain", "ours")}
                write_json(arguments.out, result | {"peak_memory_mb": memory})
            print(arguments.out.read_text(encoding="utf-8"))


def _compare(arguments: argparse.Namespace, folder: Path, paths: Sequence[Path]) -> dict[str, Any]:
    device = choose_device(arguments.device)
    files = weight_files(folder)
    scorers = make_scorers(files, device, arguments.dimensions)
    asked = _count_pairs(scorers["dynamic_degree"]) if "dynamic_degree" in scorers else []
    seconds: dict[str, dict[str, float]] = {"plain": defaultdict(float), "ours": {}}
    seconds["ours"] = defaultdict(float, decoding=_decode(paths))
    result: dict[str, Any] = {}
    for name, scorer in scorers.items():
        network = plain_network(name, files, device)
        _warm_up(network, scorer, paths[0])
        asked.clear()
        for start in range(0, len(paths), SCORED_TOGETHER):
            block = paths[start : start + SCORED_TOGETHER]
            clips = [read(path) for path in block]
            begun = time.perf_counter()
            for path in block:
                network(read(path))
            wait(device)
            turn = time.perf_counter()
            score_clips([scorer], clips)
            wait(device)
            seconds["plain"][name] += turn - begun
            seconds["ours"][name] += time.perf_counter() - turn
        if name == "dynamic_degree":
            pairs = len(paths) * (len(sampled_frames(read(paths[0]))) - 1)
            result["flow_pairs"] = {"plain": pairs, "ours": len(asked)}
        if boxes_per_frame:
            result["grit_boxes_per_frame"] = round(float(np.mean(boxes_per_frame)), 1)
        result |= _result(arguments, device, seconds)
        write_json(arguments.out, result)
        print(f"{name}: {result['ratio'][name]} times as fast", file=sys.stderr, flush=True)
    # On a GPU that takes seconds, so the median of three times.
    repeated = sorted(_together(list(scorers.values()), paths, device) for _ in range(1 if device == "cpu" else 3))
    together = repeated[len(repeated) // 2]
    result["together"] = {"seconds": round(together, 2), "clips_a_second": round(len(paths) / together, 3)}
    result["ratio_together"] = round(sum(seconds["plain"].values()) / together, 2)
    write_json(arguments.out, result)
    return result


def _decode(paths: Sequence[Path]) -> float:
    """Seconds to decode all clips, as the pipeline does."""
    begun = time.perf_counter()
    with read_ahead([_wanted(path) for path in paths]) as clips:
        for _ in clips:
            pass
    return time.perf_counter() - begun


def _together(scorers: Sequence[Scorer], paths: Sequence[Path], device: str) -> float:
    """Seconds for all clips."""
    begun = time.perf_counter()
    for _ in _blocks(scorers, paths):
        pass
    wait(device)
    return time.perf_counter() - begun


def _blocks(scorers: Sequence[Scorer], paths: Sequence[Path]) -> Iterator[int]:
    """Score all clips in blocks as `videodpo score` takes them; yield the number of clips after each."""
    with read_ahead([_wanted(path) for path in paths]) as clips:
        for start in range(0, len(paths), SCORED_TOGETHER):
            block = [next(clips) for _ in paths[start : start + SCORED_TOGETHER]]
            score_clips(scorers, [clip for clip in block if isinstance(clip, Clip)])
            yield start + len(block)


def _result(arguments: argparse.Namespace, device: str, seconds: dict[str, dict[str, float]]) -> dict[str, Any]:
    plain, ours = seconds["plain"], seconds["ours"]
    totals = {arm: sum(parts.values()) for arm, parts in seconds.items()}
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit(),
        "machine": machine(device),
        "clips": f"{arguments.clips} of {arguments.frames} frames, {arguments.height} x {arguments.width}",
        "seconds": {arm: {name: round(value, 2) for name, value in parts.items()} for arm, parts in seconds.items()},
        "ratio": {name: round(value / ours[name], 2) for name, value in plain.items()},
        "ratio_total": round(totals["plain"] / totals["ours"], 2),
        "clips_a_second": {arm: round(arguments.clips / total, 3) for arm, total in totals.items()},
    }


def _one_arm(arguments: argparse.Namespace, folder: Path, paths: Sequence[Path]) -> None:
    """Write the peak memory so far by number of clips."""
    device, files = choose_device(arguments.device), weight_files(folder)
    peaks = {}
    if arguments.arm == "plain":
        for name in arguments.dimensions:
            network = plain_network(name, files, device)
            for path in paths:
                network(read(path))
        peaks[len(paths)] = _peak(device)
    else:
        scorers = list(make_scorers(files, device, arguments.dimensions).values())
        for done in _blocks(scorers, paths):
            peaks[done] = _peak(device)
    write_json(arguments.out, peaks)


def _peak(device: str) -> dict[str, int]:
    # A process inherits ru_maxrss from its parent on Linux, but not this value.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = {"host": int(status.split("VmHWM:")[1].split()[0]) // 1024}
    return peak if device == "cpu" else peak | {"device": torch.cuda.max_memory_allocated() // 2**20}


def _peak_memory(arguments: argparse.Namespace, folder: Path, arm: str) -> dict[str, dict[str, int]]:
    out = folder / f"{arm}.json"
    count = arguments.memory_clips if arm == "ours" else 1
    command = [sys.executable, __file__, f"--device={arguments.device}", f"--clips={count}", f"--arm={arm}"]
    command += [f"--out={out}", f"--folder={folder}", "--dimensions", *arguments.dimensions]
    subprocess.run(command, check=True)
    peaks: dict[str, dict[str, int]] = json.loads(out.read_text(encoding="utf-8"))
    return peaks


def _count_pairs(scorer: Scorer) -> list[int]:
    """Make the backbone return the clips' true motion, and record every pair that it is called for.

    On a GPU, steps near the threshold are computed twice; which ones still depends on the random weights.
    """
    assert isinstance(scorer, NetworkScorer)
    backbone, asked = scorer.backbone, list[int]()
    real = backbone.outputs

    def outputs(parts: Any) -> list[float]:
        real(parts)
        asked.extend(number for _, number in parts)
        return [PAN if _moves(clip.path) else 0.0 for clip, _ in parts]

    backbone.outputs = outputs  # type: ignore[method-assign]
    return asked


def _moves(path: Path) -> bool:
    return int(path.stem) % 2 == 1


def _warm_up(network: Network, scorer: Scorer, path: Path) -> None:
    """Run the network once: compiling kernels and mapping memory happen once per process and are not timed."""
    clip = read(path)
    short = Clip(clip.frames_THWC[:3], clip.fps, clip.prompt, clip.path, clip.info)
    network(short)
    score_clips([scorer], [short])


def write_clips(folder: Path, count: int, num_frames: int, height: int, width: int) -> None:
    """Write textured scenes of blocks and noise; every second one pans by PAN per frame."""
    draw = np.random.default_rng(0)
    step = round(PAN * min(height, width))
    for number in range(count):
        path = folder / f"{number}.mp4"
        wide = width + step * num_frames
        scene = draw.integers(0, 200, (height // 16 + 1, wide // 16 + 1, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        scene = scene + draw.integers(0, 55, scene.shape, dtype=np.uint8)
        moved = step * _moves(path)
        frames = [scene[:height, moved * k : moved * k + width] for k in range(num_frames)]
        write_mp4(path, np.stack(frames), FPS)


def _wanted(path: Path) -> Wanted:
    # What follows the hyphen does not change the action that the prompt names.
    return Wanted(path, f"{PROMPT}-{int(path.stem) // CLIPS_PER_PROMPT}", num_bytes=0, info=INFO)


def read(path: Path) -> Clip:
    clip = read_clip(_wanted(path))
    assert isinstance(clip, Clip)
    return clip


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
