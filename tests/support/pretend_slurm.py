#!/usr/bin/env python3
"""Pretend SLURM commands in one folder: `sbatch` runs the job locally, and the restrictions of a site can be enabled.

The file `<job>.state` next to the commands has the state of each job. Environment: SACCT is `works`, `disabled` (exit
code 1), `disabled, exit 0`, or `fails second`, for one call; NO_GPUS refuses --gpus; MIN_JOB_AGE is in seconds.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")


def install(folder: Path) -> Path:
    """Write the commands; return the folder to put on the path."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in COMMANDS:
        command = folder / name
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {__file__} {name} "$@"\n', encoding="utf-8")
        command.chmod(0o755)
    return folder


def sbatch(folder: Path, arguments: list[str]) -> int:
    submitted = shlex.join(arguments)
    with open(folder / "submitted", "a", encoding="utf-8") as file:
        file.write(submitted + "\n")
    if "NO_GPUS" in os.environ and re.search(r"--gpus\b", submitted):
        print("sbatch: error: Batch job submission failed: Requested GRES option unsupported", file=sys.stderr)
        return 1
    number = 1 + len(list(folder.glob("*.job")))
    script = folder / f"{number}.job"
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--wrap")
    parser.add_argument("--output")
    known, _ = parser.parse_known_args(arguments)
    script.write_text(known.wrap or sys.stdin.read(), encoding="utf-8")
    state = folder / f"{number}.state"
    state.write_text("RUNNING", encoding="utf-8")
    program = f"if bash {script}; then echo COMPLETED > {state}; else echo FAILED > {state}; fi"
    with open(known.output.replace("%j", str(number)), "wb") as out:
        environment = os.environ | {"SLURM_JOB_ID": str(number), "SLURM_CPUS_PER_TASK": "1"}
        subprocess.Popen(["bash", "-c", program], env=environment, stdout=out, stderr=out, start_new_session=True)
    print(number)
    return 0


def states(folder: Path) -> int:
    for state in folder.glob("*.state"):
        print(f"{state.stem}|{state.read_text(encoding='utf-8').strip()}")
    return 0


def sacct(folder: Path) -> int:
    mode = os.environ.get("SACCT", "works")
    count = folder / "sacct.count"
    calls = int(count.read_text()) if count.exists() else 0
    count.write_text(str(calls + 1))
    if mode == "works" or (mode == "fails second" and calls != 1):
        return states(folder)
    print("Slurm accounting storage is disabled", file=sys.stderr)
    return int(mode != "disabled, exit 0")


def main(name: str, arguments: list[str]) -> int:
    folder = Path(os.environ["PRETEND_SLURM"])
    if name == "sbatch":
        return sbatch(folder, arguments)
    if name == "srun":
        program = list(itertools.dropwhile(lambda text: text.startswith("-"), arguments))
        os.execvp(program[0], program)
    if name == "squeue":
        return states(folder)
    if name == "sacct":
        return sacct(folder)
    if name == "scontrol":
        print(f"MinJobAge = {os.environ.get('MIN_JOB_AGE', '300')} sec\nMaxArraySize = 1001")
    if name == "sacctmgr":
        print("default")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
