"""Compares a GPU's scores of VBench's dimensions with the CPU's, and measures the GPU's cost per clip.

    python bench/agreement.py --out FILE [--weights FOLDER] [--clips FILE.mp4 ...] [--frames 16] [--height 320]
        [--width 512] [--num-timed 8]

The CPU's scores agree with the benchmark's own code (docs/scorers.md). The result has the largest difference in each
dimension, next to the bound that is allowed. Then `--num-timed` clips of the given size are scored together twice, as
`videodpo score` does; the second time counts.

`--weights` is a folder with the files that the networks' authors publish. Without it, weights are random; their result
says little about trained weights. `--clips` are the clips whose scores are compared; without it, three are drawn.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from machine import machine
from scoring import wait, write_clips
from scoring_networks import INFO, PROMPT, make_scorers, write_weights

from videodpo.scorers.base import Clip, Scorer
from videodpo.scorers.shared.backbone import score_clips
from videodpo.storage.files import write_json
from videodpo.storage.tables import commit
from videodpo.storage.video import read_mp4

BOUNDS = {
    "temporal_flickering": 1e-6,
    "subject_consistency": 2e-5,
    "background_consistency": 2e-5,
    "motion_smoothness": 2e-4,
    "dynamic_degree": 0.0,
    "aesthetic_quality": 2e-5,
    "imaging_quality": 5e-3,
    "overall_consistency": 2e-5,
    "temporal_style": 2e-5,
    "appearance_style": 2e-5,
    "human_action": 0.0,
}
PUBLISHED = {
    "dino": "dino_vitbase16_pretrain.pth",
    "clip_b": "ViT-B-32.pt",
    "clip_l": "ViT-L-14.pt",
    "head": "sa_0_4_vit_l_14_linear.pth",
    "amt": "amt-s.pth",
    "raft": "raft-things.pth",
    "musiq": "musiq_spaq_ckpt-358bb6af.pth",
    "viclip": "ViClip-InternVid-10M-FLT.pth",
    "umt": "l16_ptk710_ftk710_ftk400_f16_res224.pth",
    "actions": "kinetics_400_categories.txt",
}
SIZES = ((128, 192), (137, 160), (320, 240))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--clips", type=Path, nargs="+")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--height", type=int, default=320)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--num-timed", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.weights:
            files = {name: arguments.weights / file for name, file in PUBLISHED.items()}
        else:
            files = write_weights(folder, arguments.device, BOUNDS)
        on_cpu, on_device = (make_scorers(files, device, BOUNDS) for device in ("cpu", arguments.device))
        clips = [_clip(path, arguments.prompt) for path in arguments.clips or _drawn_clips(folder / "small")]
        timed = [_clip(path, PROMPT) for path in _timed_clips(folder / "timed", arguments)]
        result: dict[str, Any] = {
            "command": " ".join(["python", *sys.argv]),
            "commit": commit(),
            "machine": machine(arguments.device),
            "weights": "published formats" if arguments.weights else "random",
            "timed": f"{len(timed)} clips of {arguments.frames} frames, {arguments.height} x {arguments.width}",
            "dimensions": {},
        }
        for name, bound in BOUNDS.items():
            scorers = on_cpu[name], on_device[name]
            result["dimensions"][name] = {"bound": bound} | _dimension(*scorers, clips, timed, arguments.device)
            write_json(arguments.out, result)
            print(name, result["dimensions"][name], file=sys.stderr, flush=True)


def _dimension(
    on_cpu: Scorer, on_device: Scorer, clips: Sequence[Clip], timed: Sequence[Clip], device: str
) -> dict[str, Any]:
    expected, found = ([_number(score_clips([one], [clip])[0][0]) for clip in clips] for one in (on_cpu, on_device))
    first = score_clips([on_device], timed)
    wait(device)
    begun = time.perf_counter()
    again = score_clips([on_device], timed)
    wait(device)
    return {
        "clips": len(clips),
        "largest_difference": max(abs(a - b) for a, b in zip(expected, found, strict=True)),
        "same_bits_again": first == again,
        "milliseconds_a_clip": round(1e3 * (time.perf_counter() - begun) / len(timed), 2),
    }


def _number(score: float | ValueError) -> float:
    if isinstance(score, ValueError):
        raise score
    return score


def _clip(path: Path, prompt: str) -> Clip:
    return Clip(*read_mp4(path), prompt, info=INFO)


def _drawn_clips(folder: Path) -> list[Path]:
    paths = []
    for number, (height, width) in enumerate(SIZES):
        each = folder / str(number)
        write_clips(each, 2, 9, height, width)
        paths += [each / "1.mp4"]
    return paths


def _timed_clips(folder: Path, arguments: Namespace) -> list[Path]:
    write_clips(folder, arguments.num_timed, arguments.frames, arguments.height, arguments.width)
    return [folder / f"{number}.mp4" for number in range(arguments.num_timed)]


if __name__ == "__main__":
    main()
