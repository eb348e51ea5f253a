"""A benchmark with the names of VBench's dimensions, clips for it, and a stand-in for the command `vbench`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import yaml

from videodpo.storage.video import write_mp4

STILLS = ["In a still frame, a stop sign"]
OVERALL = ["a fantasy landscape", "A fantasy landscape"]
SAMPLES = dict.fromkeys(STILLS, 7) | dict.fromkeys(OVERALL, 5)
DIMENSIONS = {
    "temporal_flickering": STILLS,
    "imaging_quality": OVERALL,
    "dynamic_degree": OVERALL,
    "color": OVERALL,
}

# Like the original: it passes its arguments on without quotes, exits with 0 after a failure, scores the prompts of its
# own list, and its filter renames the clips that it chooses.
_PROGRAM = """#!{python}
import json, pathlib, shutil, sys
command, *words = " ".join(sys.argv[1:]).split()
options = dict(zip(words[::2], words[1::2]))
with open({calls!r}, "a") as file:
    print(command, options.get("--dimension", ""), file=file)
videos = pathlib.Path(options["--videos_path"])
if command == "static_filter":
    chosen = pathlib.Path(options["--result_path"], "filtered_videos")
    chosen.mkdir(parents=True)
    for prompt in {stills!r}:
        shutil.copy(videos / (prompt + "-6.mp4"), chosen / (prompt + "-0.mp4"))
elif options["--dimension"] not in json.load(open({failing!r})):
    name = options["--dimension"]
    files = [videos / (prompt + "-" + str(i) + ".mp4") for prompt in {dimensions!r}[name] for i in range(5)]
    value = {{"imaging_quality": 50.0, "dynamic_degree": True}}.get(name, 0.5)
    clips = [{{"video_path": str(file), "video_results": value, "more": [1]}} for file in files if file.exists()]
    mean = 0.5 if name == "imaging_quality" else float(value)
    out = pathlib.Path(options["--output_path"])
    out.mkdir()
    text = json.dumps({{name: [mean if clips else float("nan"), clips]}})
    (out / "results_2026-01-01-00:00:00_eval_results.json").write_text(text)
"""


def write_suite(folder: Path) -> str:
    """Write the suite and its prompt list; return the path of the suite. Its scorers need no weights."""
    rows = [
        {"prompt_en": prompt, "dimension": [name for name, own in DIMENSIONS.items() if prompt in own]}
        for prompt in (*STILLS, *OVERALL)
    ]
    (folder / "list.json").write_text(json.dumps(rows), encoding="utf-8")
    sharp = {"scorer": "imaging_quality_sharpness", "pillar": "quality", "min": 0.0, "max": 1.0}
    suite = {
        "module": "vbench",
        "prompts": str(folder / "list.json"),
        "groups": {
            "stills": {"dimensions": ["temporal_flickering", "static_clip"], "num_prompts": 1, "samples": 7},
            "overall": {"dimensions": ["imaging_quality", "dynamic_degree", "color"], "num_prompts": 2, "samples": 5},
        },
        "dimensions": {
            "temporal_flickering": {"pillar": "quality", "min": 0.0, "max": 1.0},
            "imaging_quality": sharp,
            "dynamic_degree": {"scorer": "dynamic_degree_dis", "pillar": "quality", "min": 0.0, "max": 1.0},
            "color": sharp | {"pillar": "semantic"},
            "static_clip": {"scorer": "temporal_flickering"},  # 1 for black clips
        },
        "gates": {"temporal_flickering": "static_clip"},
    }
    (folder / "tiny suite.yaml").write_text(yaml.safe_dump(suite), encoding="utf-8")
    return str(folder / "tiny suite.yaml")


def write_clips(folder: Path) -> str:
    """Write a clip for every sample of every prompt, black or noise; return the folder."""
    folder.mkdir()
    rng = np.random.Generator(np.random.PCG64(0))
    for prompt, samples in SAMPLES.items():
        for sample in range(samples):
            brightest = 1 if prompt in STILLS else 256
            frames_THWC = rng.integers(0, brightest, (3, 32, 32, 3), dtype=np.uint8)
            write_mp4(folder / f"{prompt}-{sample}.mp4", frames_THWC, 8.0)
    return str(folder)


class Program:
    """The stand-in; `environment` has it on PATH."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._calls, self._failing = folder / "calls", folder / "failing.json"
        self.fail()
        text = _PROGRAM.format(
            python=sys.executable,
            calls=str(self._calls),
            failing=str(self._failing),
            stills=STILLS,
            dimensions=DIMENSIONS,
        )
        (folder / "bin").mkdir()
        (folder / "bin" / "vbench").write_text(text, encoding="utf-8")
        (folder / "bin" / "vbench").chmod(0o755)
        self.environment = {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}

    def fail(self, *dimensions: str) -> None:
        """Let these dimensions fail, and no others."""
        self._failing.write_text(json.dumps(dimensions), encoding="utf-8")

    def calls(self) -> list[str]:
        """Subcommand and dimension of each call since the last question."""
        lines = self._calls.read_text(encoding="utf-8").splitlines() if self._calls.exists() else []
        self._calls.unlink(missing_ok=True)
        return [line.strip() for line in lines]
