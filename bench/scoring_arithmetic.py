"""Counts the arithmetic of VBench's dimensions that were not measured on a GPU, for all clips of the benchmark.

    python bench/scoring_arithmetic.py [--frames 81] [--height 480] [--width 832] --out FILE

One clip is scored on the CPU with random weights, and torch counts the matrix products and convolutions. The work of
GRiT grows with the number of boxes, which is in the result; its texts have five words.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import torch
from scoring import read, write_clips
from scoring_networks import make_scorers, write_weights
from torch.utils.flop_counter import FlopCounterMode

from videodpo.config.benchmark import read_suite
from videodpo.scorers.networks.grit_text import Memory, TextDecoder
from videodpo.scorers.shared.backbone import Backbone, NetworkScorer, score_clips
from videodpo.scorers.shared.grit import NUM_FRAMES
from videodpo.storage.files import write_json
from videodpo.storage.tables import commit

DIMENSIONS = (
    "object_class",
    "multiple_objects",
    "spatial_relationship",
    "color",
    "human_action",
    "scene",
    "temporal_style",
    "appearance_style",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    boxes: list[int] = []
    memory = TextDecoder.memory

    def counted(decoder: TextDecoder, features_RCSS: torch.Tensor) -> Memory:
        boxes.append(len(features_RCSS))
        return memory(decoder, features_RCSS)

    found: dict[Backbone, float] = {}  # GRiT's three dimensions with names have one pass
    rows, suite = {}, read_suite("vbench")
    with tempfile.TemporaryDirectory() as temporary, patch.object(TextDecoder, "memory", counted):
        folder = Path(temporary)
        write_clips(folder, 1, arguments.frames, arguments.height, arguments.width)
        scorers = make_scorers(write_weights(folder, "cpu", DIMENSIONS), "cpu", DIMENSIONS)
        for name, scorer in scorers.items():
            assert isinstance(scorer, NetworkScorer)
            if scorer.backbone not in found:
                with FlopCounterMode(display=False) as counter:
                    score_clips([scorer], [read(folder / "0.mp4")])
                found[scorer.backbone] = counter.get_total_flops() / 1e12
            group = suite.groups[suite.group_of(name)]
            clips = group.num_prompts * group.samples
            tflop = found[scorer.backbone]
            rows[name] = {"tflop_a_clip": round(tflop, 2), "clips": clips, "tflop": round(tflop * clips)}
            print(name, rows[name], file=sys.stderr, flush=True)
    passes = 2  # of GRiT: names, and names with captions
    result = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit(),
        "clip": f"{arguments.frames} frames, {arguments.height} x {arguments.width}",
        "grit_boxes_per_frame": round(sum(boxes) / passes / NUM_FRAMES, 1),
        "dimensions": rows,
        "tflop": sum(row["tflop"] for row in rows.values()),
    }
    write_json(arguments.out, result)
    print(arguments.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
