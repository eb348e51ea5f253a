"""Rehearses a run on random weights in the published layouts, from the prompts to the report, with profiles/local.

    PYTHONPATH=. python bench/rehearsal.py [--preset NAME ...] [--layers N] [--keep FOLDER]

Without options, it runs config.yaml with all layers of its denoiser, then every other model's preset with CUT layers.
A release requires it. The exit code is 1 if a stage fails, or if a log has a line that is neither the product's own nor
in KNOWN. Clips are small and few (OVERLAY); everything else is as configured, except that presets leave out the scorers
in ONLY_DEFAULT, and that TRAIN changes the training of some. Snakemake measures seconds and peak memory per job; the
tables have each rule's total seconds and largest peak.

bench/results/rehearsal.json has one entry per preset, bench/results/rehearsal.md the tables; a call replaces the
entries of its presets.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from machine import machine

from videodpo.config.loading import read_config
from videodpo.runtime.device import choose_device
from videodpo.storage.files import write_json, write_text
from videodpo.storage.tables import commit

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "rehearsal.json"
DEFAULT, CUT = "config.yaml", 2
LINKED = ("Snakefile", "rules", "envs", "profiles", "presets", "config.yaml")
# Frames, height and width: the smallest that the model and all scorers take.
CLIPS = {
    "config.yaml": (5, 128, 128),
    "wan2.1-14b": (5, 128, 128),
    "wan2.2-a14b": (5, 128, 128),
    "wan2.2-ti2v-5b": (5, 128, 128),
    "cogvideox-2b": (9, 128, 128),
    "cogvideox-5b": (9, 128, 128),
    "ltx-video": (9, 128, 128),
    "hunyuan-video-1.5": (5, 128, 128),
    "modelscope": (4, 128, 128),
    "zeroscope": (4, 128, 128),
    "videocrafter2": (4, 128, 128),
    "t2v-turbo": (4, 128, 128),
}
SCORERS = {
    "subject_consistency": "dino_vitbase16_pretrain.pth",
    "background_consistency": "ViT-B-32.pt",
    "motion_smoothness": "amt-s.pth",
    "dynamic_degree": "raft-things.pth",
    "aesthetic_quality": ["ViT-L-14.pt", "sa_0_4_vit_l_14_linear.pth"],
    "imaging_quality": "musiq_spaq_ckpt-358bb6af.pth",
    "overall_consistency": "ViClip-InternVid-10M-FLT.pth",
}
# Scorers do not depend on the model: the slower ones are rehearsed only once.
ONLY_DEFAULT = ("background_consistency", "motion_smoothness", "aesthetic_quality", "imaging_quality")
PROMPTS = (
    "a red tram in the rain",
    "two dogs run on a beach",
    "a boat, seen from above",
    "steam over a cup of tea",
    "a kite over green hills",
)
OVERLAY: dict[str, Any] = {
    "run": "rehearsal",
    "prompts": {"source": {"kind": "text", "path": "prompts.txt"}, "num_train": 3, "num_heldout": 2},
    "generate": {"videos_per_prompt": 2, "sampling": {"num_steps": 2, "buckets": []}},
    "schedule": {"num_steps": 2, "global_batch_size": 2, "validation": {"num_prompts": 1, "draws": 1}},
    "train": {"warmup_steps": 0},
}
# All weights of VideoCrafter2 with its online reference would take 28 GB: two models, gradients and moments in float32.
TRAIN: dict[str, dict[str, Any]] = {"videocrafter2": {"method": "lora"}}
# Lines of our own processes: from the logger, the doctor and `list-shards`, and tables for the terminal.
OWN = re.compile(
    r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ (?!WARNING)(?:[A-Z]+ )?videodpo\.|(?:fine|warning) +\w+ )|^\s*$"
)
# Patterns of other lines that are allowed, each with the reason.
KNOWN: dict[str, str] = {}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=CLIPS, nargs="+", default=list(CLIPS))
    parser.add_argument(
        "--layers", type=int, help=f"of the denoiser; without: all of {DEFAULT}'s, {CUT} of the others'"
    )
    parser.add_argument("--keep", type=Path, help="work here, and leave everything there")
    arguments = parser.parse_args()
    failed = []
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as temporary:
        above = arguments.keep.resolve() if arguments.keep else Path(temporary)
        write_weights("scorers", above / "scorers")
        for preset in arguments.preset:
            folder = above / preset.removesuffix(".yaml")
            row = rehearse(preset, folder, arguments.layers or (None if preset == DEFAULT else CUT))
            if not arguments.keep:
                shutil.rmtree(folder)
            known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
            rows = {name: (known | {preset: row})[name] for name in CLIPS if name in known or name == preset}
            write_json(RESULTS, rows)
            write_text(RESULTS.with_suffix(".md"), markdown(rows))
            print(markdown({preset: row}), flush=True)
            if row["exit_code"] or row["unexpected"]:
                failed.append(preset)
    if failed:
        print(f"rehearsal: failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def write_weights(what: str, folder: Path, layers: int | None = None) -> None:
    """Write the weights of the scorers or of a preset's model, unless the folder exists."""
    if not folder.exists():
        command = [sys.executable, str(Path(__file__).with_name("rehearsal_weights.py")), what, str(folder)]
        subprocess.run([*command, *[str(layers)] * (layers is not None)], check=True)


def rehearse(preset: str, folder: Path, layers: int | None) -> dict[str, Any]:
    """Run the workflow on random weights, and read its logs and benchmarks."""
    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    for name in LINKED:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(ROOT / name)
    write_weights(preset, folder / "model", layers)
    overlay = make_overlay(preset)
    (folder / "overlay.yaml").write_text(yaml.safe_dump(overlay), encoding="utf-8")
    (folder / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in PROMPTS), encoding="utf-8")
    shutil.rmtree(folder / "results", ignore_errors=True)
    built = time.monotonic()
    files = [DEFAULT, *[f"presets/{preset}.yaml"] * (preset != DEFAULT), "overlay.yaml"]
    answer = subprocess.run(
        ["snakemake", "--profile", "profiles/local", "--configfile", *files],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    (folder / "snakemake.log").write_text(answer.stdout, encoding="utf-8")
    if answer.returncode:
        print(answer.stdout[-6000:], file=sys.stderr)
    stages, unexpected = read_run(folder / "results" / "rehearsal")
    return {
        "clip": overlay["generate"]["sampling"],
        "commit": commit(),
        "dtype": overlay["model"]["dtype"],
        "exit_code": answer.returncode,
        "layers": layers,
        "machine": machine(choose_device("auto")),
        "seconds": {"weights": round(built - begun, 1), "run": round(time.monotonic() - built, 1)},
        "stages": stages,
        "unexpected": unexpected,
    }


def make_overlay(preset: str) -> dict[str, Any]:
    """Settings that override the configuration, with paths relative to the preset's folder."""
    num_frames, height, width = CLIPS[preset]
    overlay: dict[str, Any] = json.loads(json.dumps(OVERLAY))
    overlay["generate"]["sampling"] |= {"num_frames": num_frames, "height": height, "width": width}
    overlay["train"] |= TRAIN.get(preset, {})
    files = {name: [found] if isinstance(found, str) else found for name, found in SCORERS.items()}
    paths = {name: [f"../scorers/{file}" for file in found] for name, found in files.items()}
    dimensions: dict[str, Any] = {
        name: {"options": {"weights": found if len(found) > 1 else found[0]}} for name, found in paths.items()
    }
    if preset != DEFAULT:
        dimensions |= dict.fromkeys(ONLY_DEFAULT)
    dtype = read_config(ROOT / DEFAULT, preset_files(preset))["model"]["dtype"]
    if dtype == "float16" and choose_device("auto") == "cpu":
        dtype = "bfloat16"  # CPUs have no fast float16, and diffusers warns of it
    return overlay | {"model": {"weights": "model", "dtype": dtype}, "dimensions": dimensions}


def preset_files(preset: str) -> list[Path]:
    return [ROOT / "presets" / f"{preset}.yaml"] * (preset != DEFAULT)


def read_run(run: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Jobs, seconds, peak memory and warnings of each rule, and the unexpected log lines."""
    stages: dict[str, dict[str, Any]] = defaultdict(
        lambda: {"jobs": 0, "seconds": 0.0, "peak_memory_mb": 0.0, "warnings": 0}
    )
    for file in sorted(run.rglob("benchmarks/**/*.tsv"), key=lambda path: path.stat().st_mtime):
        row = stages[_stage(file)]
        with file.open(encoding="utf-8") as lines:
            (job,) = csv.DictReader(lines, delimiter="\t")
        row["jobs"] += 1
        row["seconds"] = round(row["seconds"] + float(job["s"]), 1)
        memory = [float(value) for value in [job["max_rss"]] if value.replace(".", "", 1).isdigit()]
        row["peak_memory_mb"] = max([row["peak_memory_mb"], *memory])
    unexpected = []
    for file in sorted(run.rglob("logs/**/*.log")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if OWN.match(line):
                continue
            stages[_stage(file)]["warnings"] += 1
            if not any(re.search(pattern, line) for pattern in KNOWN):
                unexpected.append(f"{file.relative_to(run)}: {line}")
    return [{"stage": name, **row} for name, row in stages.items()], unexpected


def _stage(file: Path) -> str:
    """Rule of a log or benchmark: the first name below its folder."""
    above = next(k for k, part in enumerate(file.parts) if part in ("logs", "benchmarks"))
    return file.parts[above + 1].partition(".")[0]


def markdown(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """One table per preset."""
    text = []
    for preset, row in rows.items():
        clip, layers = row["clip"], "all layers" if row["layers"] is None else f"at most {row['layers']} layers"
        size = f"clips of {clip['num_frames']} frames of {clip['height']} x {clip['width']}"
        text += [
            f"## {preset}",
            "",
            f"{layers} of the denoiser in {row['dtype']}, {size}, {row['machine']}, commit {row['commit'][:10]}.",
        ]
        total = f"{row['seconds']['weights']:g} s to write the weights, {row['seconds']['run']:g} s for the run"
        text += [f"{total}, exit code {row['exit_code']}.", ""]
        text += ["| stage | jobs | seconds | peak memory, MB | warnings |", "|---|---|---|---|---|"]
        for one in row["stages"]:
            cells = (one["stage"], one["jobs"], f"{one['seconds']:g}", f"{one['peak_memory_mb']:.0f}", one["warnings"])
            text.append(f"| {' | '.join(map(str, cells))} |")
        text += ["", *(f"Unexpected: `{line}`" for line in row["unexpected"][:20]), ""]
    return "\n".join(text).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
