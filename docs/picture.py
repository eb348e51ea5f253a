"""Draws the README's picture: held-out clips of the demo, the base model above the aligned one, as an animated GIF.

    python docs/picture.py [--run results/demo] [--columns 8] [--out docs/images/demo.gif]

Shows the first sample of the first held-out prompts, in the order of the prompts table: nobody chose them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from videodpo.storage.tables import read_shards
from videodpo.storage.video import read_mp4

SCALE = 3  # pixels per pixel of the clip
GAP = 8  # pixels between clips
ARMS = ("base", "aligned")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, default=Path("results/demo"))
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("docs/images/demo.gif"))
    arguments = parser.parse_args()
    tables = [read_shards(arguments.run / "round1" / "evaluation" / "videos" / arm) for arm in ARMS]
    firsts = [table[(table["sample"] == 0) & (table.status == "ok")].set_index("prompt_id") for table in tables]
    prompts = firsts[0].index.intersection(firsts[1].index, sort=False)[: arguments.columns]
    rows = [np.stack([_frames(arguments.run, clips.loc[prompt]) for prompt in prompts]) for clips in firsts]
    frames = [Image.fromarray(frame) for frame in _grid(np.stack(rows))]
    fps = float(firsts[0].fps.iloc[0])
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(arguments.out, save_all=True, append_images=frames[1:], duration=round(1000 / fps), loop=0)


def _frames(run: Path, video: pd.Series) -> np.ndarray:
    """Frames of one clip, enlarged with hard edges, [T, H, W, 3]."""
    frames, _ = read_mp4(run / video.path)
    return frames.repeat(SCALE, axis=1).repeat(SCALE, axis=2)


def _grid(clips: np.ndarray) -> np.ndarray:
    """Lay out clips [row, column, T, H, W, 3] on white, [T, height, width, 3]."""
    padded = np.pad(clips, ((0, 0), (0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    rows, columns, length, height, width, _ = padded.shape
    return padded.transpose(2, 0, 3, 1, 4, 5).reshape(length, rows * height, columns * width, 3)


if __name__ == "__main__":
    main()
