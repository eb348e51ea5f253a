"""Number of jobs of a run, and the cost of planning them, by number of prompts.

    python bench/dag.py [--prompts 10000 100000 1000000] --out FILE

Runs `snakemake --dry-run` with the default configuration (four videos per prompt, eight dimensions, `shards: auto`) and
each number of training prompts, in an empty folder.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml
from machine import machine

from videodpo.storage.files import write_json
from videodpo.storage.tables import commit

ROOT = Path(__file__).parents[1]
LINKED = ("Snakefile", "config.yaml", "rules", "envs", "demo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    load, runs = round(os.getloadavg()[0], 1), [_plan(count) for count in arguments.prompts]
    answer = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit(),
        "machine": machine("cpu"),
        "load_average": load,
        "runs": runs,
    }
    write_json(arguments.out, answer)
    print(json.dumps(answer, indent=2))


def _plan(num_prompts: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for linked in LINKED:
            (folder / linked).symlink_to(ROOT / linked)
        overlay = {"prompts": {"num_train": num_prompts}}
        (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
        command = ["snakemake", "--dry-run", "--quiet", "all", "--configfile", "config.yaml", "overlay.yaml"]
        begun = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"{' '.join(command)}: exit status {status}\n{output}")
        return {
            "prompts": num_prompts,
            "seconds": round(time.perf_counter() - begun, 1),
            "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
            "peak_memory_mb": round(used.ru_maxrss / 1024),
            "jobs": _jobs(output),
        }


def _jobs(output: str) -> dict[str, int]:
    """Number of jobs of each rule, from the table that Snakemake prints."""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", output, flags=re.MULTILINE)}


if __name__ == "__main__":
    main()
