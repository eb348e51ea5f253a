"""Runs the entire demo for several seeds and prints the scores of base and aligned for each.

    python bench/demo_seeds.py [--seeds 0 1 2 3 4] [--overlay FILE]...

Prints the table and writes `bench/results/demo_seeds.json` (or `--out`); finished runs are not re-run.
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
import pandas as pd

from videodpo.preference.statistics import bootstrap_interval
from videodpo.storage.tables import commit, read_table

ROOT = Path(__file__).resolve().parents[1]
JUDGES = ("caption_accuracy", "world_fidelity")
SHOWN = ("omniscore", "semantic", *JUDGES, "dynamic_degree_dis")
MOST_MOTION_LOST = 0.05
RESAMPLES = 10_000


def main() -> None:
    """Run, read every summary, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--overlay", type=Path, action="append", default=[], help="YAML file that overrides keys of the demo preset"
    )
    parser.add_argument("--name", default="demo-seed", help="prefix of the runs' names")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "demo_seeds.json")
    arguments = parser.parse_args()
    rows, tables = [], []
    for seed in arguments.seeds:
        run = f"{arguments.name}-{seed}"
        files = ["config.yaml", "presets/demo.yaml", *map(str, arguments.overlay)]
        snakemake = ["snakemake", "--profile", "profiles/demo", "--quiet", "all", "--configfile", *files]
        subprocess.run([*snakemake, "--config", f"seed={seed}", f"run={run}"], cwd=ROOT, check=True)
        evaluation = ROOT / "results" / run / "round1" / "evaluation"
        summary = json.loads((evaluation / "summary.json").read_text())
        tables.append(read_table(evaluation / "prompts.parquet").assign(seed=seed))
        rows.append({"seed": seed, "motion": summary["motion"], "dimensions": summary["dimensions"]})
        print(_line(rows[-1]), flush=True)
    pooled = {name: _pooled(pd.concat(tables), name) for name in SHOWN}
    for verdict in _verdicts(rows, pooled):
        print(verdict)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python", "bench/demo_seeds.py", *sys.argv[1:]])
    record = {
        "command": command,
        "commit": commit(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "rows": rows,
        "pooled": pooled,
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
    return "; ".join([*parts, f"gain {_gain(row):.0%}", f"motion {row['motion']['relative_change']:+.1%}"])


def _gain(row: dict[str, Any]) -> float:
    gain: float = row["dimensions"]["omniscore"]["gain"]
    return gain


def _pooled(table: pd.DataFrame, name: str) -> dict[str, float]:
    """Mean change over the prompts of all seeds, and its interval."""
    of_score = table[table.dimension == name]
    prompts = of_score.seed.astype(str) + of_score.prompt_id
    interval = bootstrap_interval(of_score.delta, prompts, resamples=RESAMPLES, seed=0)
    assert interval is not None
    return {"delta": float(of_score.delta.mean()), "low": interval[0], "high": interval[1]}


def _verdicts(rows: list[dict[str, Any]], pooled: dict[str, dict[str, float]]) -> list[str]:
    """Verdicts on the demo's promises: a clear gain, a gain by both judges, and no loss of motion."""
    clear = sum(row["dimensions"]["omniscore"]["ci_low"] > 0 for row in rows)
    motions = [row["motion"]["relative_change"] for row in rows]
    changes = "; ".join(
        f"{name} {one['delta']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]" for name, one in pooled.items()
    )
    return [
        f"OmniScore's 95 % interval is above zero for {clear} of {len(rows)} seeds",
        f"gain: {np.mean([_gain(row) for row in rows]):.0%} of the headroom on average",
        f"all seeds together: {changes}",
        f"motion: {np.mean(motions):+.1%} on average, more than {MOST_MOTION_LOST:.0%} lower for "
        f"{sum(change < -MOST_MOTION_LOST for change in motions)} of {len(rows)}",
    ]


if __name__ == "__main__":
    main()
