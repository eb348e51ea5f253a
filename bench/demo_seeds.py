"""Runs the whole demo for several seeds and prints base against aligned for each.

    python bench/demo_seeds.py [--seeds 0 1 2 3 4] [--overlay FILE]...

Writes `bench/results/demo_seeds.json` beside the table; finished runs are not made again.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from pathlib import Path

from videodpo.tables import commit

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("omniscore", "caption_accuracy", "dynamic_degree_dis")


def main() -> None:
    """Run, read every summary, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--overlay", type=Path, action="append", default=[], help="YAML laid over the demo preset")
    parser.add_argument("--name", default="demo-seed", help="prefix of the runs' names")
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
    clear = sum(row["dimensions"]["omniscore"]["ci_low"] > 0 for row in rows)
    print(f"OmniScore's 95 % interval is above zero for {clear} of {len(rows)} seeds")
    out = ROOT / "bench" / "results" / "demo_seeds.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    record = {"command": "python bench/demo_seeds.py", "commit": commit(), "machine": platform.platform(), "rows": rows}
    out.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _line(row: dict) -> str:
    parts = [f"seed {row['seed']}"]
    for name in SHOWN:
        figure = row["dimensions"][name]
        parts.append(
            f"{name} {figure['base']:.4f} -> {figure['aligned']:.4f} "
            f"({figure['delta']:+.4f} [{figure['ci_low']:+.4f}, {figure['ci_high']:+.4f}])"
        )
    return "; ".join(parts)


if __name__ == "__main__":
    main()
