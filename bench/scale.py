"""Compares the stages for OmniScore, pairs and weights with DuckDB and pandas, on the same files of many videos.

    python bench/scale.py [--videos 10000000] [--against duckdb pandas] --folder FOLDER --out FILE

Makes the tables of a scored round, unless FOLDER has them: the configuration's eight dimensions, four videos per
prompt, and the number of shards from `generate.shards: auto`. Then each arm writes the OmniScores, the pairs and their
weights to disk, in its own processes on two cores. The arm `stages` runs `videodpo omniscore` and `videodpo pairs`,
once before and once after the others; both runs must give the same bytes. All arms must agree on every pair.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from machine import machine
from scale_round import make_round

from videodpo.storage.files import sha256_of, write_json
from videodpo.storage.tables import commit

CORES = {0, 1}
TABLES = ("omniscore.parquet", "pairs.parquet", "pairs_rejected.parquet")
VIDEODPO = [sys.executable, "-m", "videodpo"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=10_000_000)
    parser.add_argument("--against", nargs="*", default=["duckdb", "pandas"])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    run = arguments.folder / "scale"
    if not (run / "complete").exists():
        make_round(arguments.folder, arguments.videos)
        (run / "complete").touch()
    load = os.getloadavg()[0]
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ("stages", *arguments.against)}
    digests = set()
    for arm in ("stages", *arguments.against, "stages"):
        found[arm].append(_timed(_commands(arm, run)))
        print(arm, found[arm][-1], flush=True)
        if arm == "stages":
            digests.add(tuple(sha256_of(run / "round1" / name) for name in TABLES))
    best = {arm: min(runs, key=lambda one: one["seconds"]) for arm, runs in found.items()}
    answer = {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit(),
        "machine": machine("cpu"),
        "load": {"before": load, "after": os.getloadavg()[0]},
        "videos": arguments.videos,
        "shards": len(list((run / "round1" / "videos").glob("*.parquet"))),
        "bytes_a_video": _bytes_a_video(run, arguments.videos),
        "runs": found,
        "distinct_bytes_of_the_stages": len(digests),
        "ratio_of_seconds": {arm: round(one["seconds"] / best["stages"]["seconds"], 2) for arm, one in best.items()},
        "ratio_of_cpu": {
            arm: round(one["cpu_seconds"] / best["stages"]["cpu_seconds"], 2) for arm, one in best.items()
        },
        "disagreement": {arm: _disagreement(run, arm) for arm in arguments.against},
    }
    write_json(arguments.out, answer)
    print(json.dumps(answer, indent=2))


def _commands(arm: str, run: Path) -> dict[str, list[str]]:
    if arm == "stages":
        config = {stage: ["--config", str(run / "config" / f"{stage}.json")] for stage in ("omniscore", "pairs")}
        return {stage: [*VIDEODPO, stage, *options] for stage, options in config.items()}
    _folder(run, arm).mkdir(exist_ok=True)
    script = Path(__file__).with_name("scale_arms.py")
    return {arm: [sys.executable, str(script), arm, str(run), str(_folder(run, arm))]}


def _folder(run: Path, arm: str) -> Path:
    return run / "round1" if arm == "stages" else run / arm


def _timed(commands: dict[str, list[str]]) -> dict[str, float]:
    """Seconds and processor seconds of all commands together, and the highest peak of their memory."""
    answer = {"seconds": 0.0, "cpu_seconds": 0.0, "peak_memory_mb": 0.0}
    for name, command in commands.items():
        begun = time.perf_counter()
        process = subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, CORES))
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"{name}: exit status {status}")
        seconds = round(time.perf_counter() - begun, 2)
        answer["seconds"] = round(answer["seconds"] + seconds, 2)
        answer["cpu_seconds"] = round(answer["cpu_seconds"] + used.ru_utime + used.ru_stime, 2)
        answer["peak_memory_mb"] = max(answer["peak_memory_mb"], round(used.ru_maxrss / 1024))
        if len(commands) > 1:
            answer[f"{name}_seconds"] = seconds
    return answer


def _bytes_a_video(run: Path, num_videos: int) -> dict[str, float]:
    """Bytes per video of each table on disk."""
    above = run / "round1"
    scores = sorted((above / "scores").iterdir())
    files = {"prompts": [run / "prompts.parquet"], "videos": list((above / "videos").glob("*.parquet"))}
    files |= {f"scores/{folder.name}": list(folder.glob("*.parquet")) for folder in scores}
    files |= {name: [above / name] for name in TABLES}
    return {name: round(sum(path.stat().st_size for path in paths) / num_videos, 2) for name, paths in files.items()}


def _disagreement(run: Path, arm: str) -> dict[str, Any]:
    """Number of pairs that only one arm has, and the largest differences in score and weight of the other pairs."""
    import duckdb

    ours, theirs = (f"'{_folder(run, one) / 'pairs.parquet'}'" for one in ("stages", arm))
    found = duckdb.execute(f"""
        SELECT count(*) FILTER (a.prompt_id IS NULL OR b.prompt_id IS NULL) AS pairs,
            max(abs(a.score_winner - b.score_winner)) AS score, max(abs(a.weight / b.weight - 1)) AS relative_weight
        FROM {ours} a FULL JOIN {theirs} b USING (prompt_id, winner_id, loser_id)""").fetchall()[0]
    return dict(zip(("pairs", "score", "relative_weight"), found, strict=True))


if __name__ == "__main__":
    main()
