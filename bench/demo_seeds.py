"""Runs the whole demo for several seeds and prints base against aligned for each.

    python bench/demo_seeds.py [--seeds 0 1 2 3 4] [--overlay FILE]...

Writes `bench/results/demo_seeds.json` (or `--out`) beside the table; finished runs are not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from videodpo.storage.tables import commit

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("omniscore", "semantic", "caption_accuracy", "world_fidelity", "dynamic_degree_dis")
MOST_MOTION_LOST = 0.1


def main() -> None:
    """Run, read every summary, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--overlay", type=Path, action="append", default=[], help="YAML laid over the demo preset")
    parser.add_argument("--name", default="demo-seed", help="prefix of the runs' names")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "demo_seeds.json")
    arguments = parser.parse_args()
    rows = []
    for seed in arguments.seeds:
        run = f"{arguments.name}-{seed}"
        files = ["config.yaml", "presets/demo.yaml", *map(str, arguments.overlay)]
        command = ["snakemake", "--profile", "profiles/demo", "--quiet", "all", "--configfile", *files]
        subprocess.run([*command, "--config", f"seed={seed}", f"run={run}"], cwd=ROOT, check=True)
        summary = json.loads((ROOT / "results" / run / "round1" / "evaluation" / "summary.json").read_text())
        rows.append({"seed": seed, "motion": summary["motion"], "dimensions": summary["dimensions"]})
        print(_line(rows[-1]), flush=True)
    for verdict in _verdicts(rows):
        print(verdict)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python", "bench/demo_seeds.py", *sys.argv[1:]])
    record = {
        "command": command,
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _line(row: dict[str, Any]) -> str:
    parts = [f"seed {row['seed']}"]
    for name in SHOWN:
        figure = row["dimensions"][name]
        parts.append(
            f"{name} {figure['base']:.4f} -> {figure['aligned']:.4f} "
            f"({figure['delta']:+.4f} [{figure['ci_low']:+.4f}, {figure['ci_high']:+.4f}])"
        )
    return "; ".join(parts)


def _verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """What the demo promises: a clear gain, captions followed no worse, no motion given up for it."""
    clear = sum(row["dimensions"]["omniscore"]["ci_low"] > 0 for row in rows)
    still = sum(row["motion"]["relative_change"] < -MOST_MOTION_LOST for row in rows)
    judged = [row["dimensions"]["caption_accuracy"] for row in rows]
    worse = sum(figure["ci_high"] < 0 for figure in judged)
    deltas = np.array([figure["delta"] for figure in judged])
    error = deltas.std(ddof=1) / np.sqrt(len(deltas)) if len(deltas) > 1 else np.nan
    return [
        f"OmniScore's 95 % interval is above zero for {clear} of {len(rows)} seeds",
        f"caption accuracy: mean change {deltas.mean():+.4f} (standard error over seeds {error:.4f}), "
        f"clearly lower for {worse} of {len(rows)}",
        f"motion: more than {MOST_MOTION_LOST:.0%} lower for {still} of {len(rows)}",
    ]


if __name__ == "__main__":
    main()
