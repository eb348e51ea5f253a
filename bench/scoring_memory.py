"""Peak memory of a scoring job by the number of its clips: it must not grow with them.

    python bench/scoring_memory.py [--clips 100 10000] --out FILE

The stage itself scores one shard of the demo's clips (9 frames of 32 x 32) in four dimensions, with videos table,
store, saving and resuming. Each number of clips runs in its own process.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.render import FPS, NUM_FRAMES, SIZE, render
from videodpo.runtime.settings import ScoreSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.score import score_shard
from videodpo.storage.files import sha256_of, write_json
from videodpo.storage.schemas import PROMPTS, VIDEOS
from videodpo.storage.tables import commit, read_rows, write_table
from videodpo.storage.video import write_mp4

ROOT = Path(__file__).parents[1]
NUM_FILES = 16  # number of different files; the clips are links to them
EXECUTION = {
    "stage": "execution",
    "run": "bench",
    "folder": "",
    "seed": 0,
    "code_version": "",
    "weights": {},
    "settings": {"clip_storage": "files", "device": "cpu", "max_failed_fraction": 0.0, "train_runtime": {}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[100, 10000])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--one", type=int, help="measure this number of clips in this process")
    arguments = parser.parse_args()
    if arguments.one:
        with tempfile.TemporaryDirectory() as folder:
            write_json(arguments.out, _measure(Path(folder), arguments.one))
        return
    found = []
    for count in arguments.clips:
        subprocess.run([sys.executable, __file__, f"--one={count}", f"--out={arguments.out}"], check=True)
        found.append(json.loads(arguments.out.read_text(encoding="utf-8")))
    ratio = round(found[-1]["peak_memory_mb"] / found[0]["peak_memory_mb"], 3)
    answer = {"command": " ".join(["python", *sys.argv]), "commit": commit(), "runs": found, "ratio_of_memory": ratio}
    write_json(arguments.out, answer)
    print(arguments.out.read_text(encoding="utf-8"))


def _measure(run: Path, count: int) -> dict[str, float]:
    videos = _write_run(run, count)
    scorers = [_snapshot(run, name, {}) for name in ("temporal_flickering", "imaging_quality_sharpness")]
    clip = {"weights": str(ROOT / "demo" / "clip")}
    scorers += [_snapshot(run, name, clip) for name in ("subject_consistency_clip", "overall_consistency_clip")]
    begun = time.perf_counter()
    score_shard(scorers, videos, run / "scores")
    seconds = time.perf_counter() - begun
    assert len(read_rows(run / "scores" / "by-clip" / "shard-00000.parquet")) == count * len(scorers)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"clips": count, "seconds": round(seconds, 1), "peak_memory_mb": round(peak)}


def _snapshot(run: Path, dimension: str, options: dict[str, str]) -> Snapshot[ScoreSettings]:
    settings = ScoreSettings(dimension=dimension, options=options, is_judge=False)
    return Snapshot("score", "bench", run, 0, settings, dimension, {})


def _write_run(run: Path, count: int) -> Path:
    files = []
    for number in range(NUM_FILES):
        scene = random_scene(random.Random(number))
        path = run / "clips" / f"{number}.mp4"
        write_mp4(path, render(scene, random.Random(number)), FPS)
        files.append((scene.caption, path, sha256_of(path)))
    prompts, videos = [], []
    for number in range(count):
        caption, path, sha256 = files[number % NUM_FILES]
        link = run / "clips" / f"clip-{number}.mp4"
        link.hardlink_to(path)
        prompt_id = f"{number:016x}"
        prompt = {"prompt_id": prompt_id, "prompt": caption, "source": "bench", "split": "train", "position": number}
        prompts.append(prompt)
        video = dict.fromkeys(VIDEOS.names) | {"video_id": f"{prompt_id}-0", "prompt_id": prompt_id, "sample": 0}
        video |= {"seed": 0, "status": "ok", "model": "none", "path": f"clips/{link.name}", "sha256": sha256}
        videos.append(video | {"num_frames": NUM_FRAMES, "height": SIZE, "width": SIZE, "fps": FPS})
    write_table(run / "prompts.parquet", prompts, PROMPTS, stage="prompts", digest="", seed=0)
    extra = {"num_shards": "1", "shard": "0", "num_videos": str(count), "block": "16"}
    write_table(run / "videos.parquet", videos, VIDEOS, stage="generate", digest="", seed=0, extra=extra)
    write_json(run / "config" / "execution.json", EXECUTION)
    return run / "videos.parquet"


if __name__ == "__main__":
    main()
