"""Measures the scores of world_fidelity on clips of the demo world with defects of known strength, and its cost.

    PYTHONPATH=. python bench/world_fidelity.py [--clips 40]

Writes `bench/results/world_fidelity.json` and prints the table of docs/scorers.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from tests.support.corruptions import CORRUPTIONS, corrupted, through_mp4
from videodpo.config import Section
from videodpo.scorers.base import Clip
from videodpo.scorers.world_fidelity import WorldFidelity
from videodpo.storage.tables import commit

OUT = Path(__file__).parent / "results" / "world_fidelity.json"
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


def main() -> None:
    """Score, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=40, help="scenes for each defect and strength")
    arguments = parser.parse_args()
    scorer = WorldFidelity(Section(), "cpu")
    rows, seconds = {}, []
    print("| defect |" + "".join(f" {strength:g} |" for strength in STRENGTHS) + " falls | rank correlation |")
    print("|---" * (len(STRENGTHS) + 3) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for kind in CORRUPTIONS:
            scores = np.empty((len(STRENGTHS), arguments.clips))
            for row, strength in enumerate(STRENGTHS):
                for seed in range(arguments.clips):
                    frames = through_mp4(corrupted(seed, kind, strength), Path(folder))
                    start = time.process_time()
                    scores[row, seed] = scorer.score(Clip(frames, 8.0, ""))
                    seconds.append(time.process_time() - start)
            falls = float((np.diff(scores, axis=0) < 0).mean())
            ranks = float(np.mean([spearmanr(STRENGTHS, column).statistic for column in scores.T]))
            rows[kind] = {"mean": scores.mean(axis=1).tolist(), "falls": falls, "rank_correlation": ranks}
            means = "".join(f" {mean:.3f} |" for mean in rows[kind]["mean"])
            print(f"| {kind} |{means} {falls:.0%} | {ranks:.2f} |", flush=True)
    milliseconds = 1000 * float(np.median(seconds))
    print(f"{milliseconds:.1f} ms of processor time per clip")
    record = {
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "clips": arguments.clips,
        "strengths": STRENGTHS,
        "defects": rows,
        "median_milliseconds_per_clip": milliseconds,
    }
    OUT.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
