"""Seconds per DPO step of the bundled model: as in the released code, with an online and a precomputed reference.

    python bench/dpo_step.py --out FILE [--method full lora] [--pairs-per-pass 1] [--steps 200]

Run it from the repository's root; it uses the CPU. The stages themselves make the pairs, with the demo's preset. Arms:

    released     decode two MP4s and encode them with the VAE, encode the caption, policy forward and backward, forward
                 of a second network as the reference, clipping, optimizer; built from this project's parts
    online       `train.reference: online`: latents and texts from files, a frozen copy (or the adapter off)
    precomputed  `train.reference: precomputed`: the reference's errors from its table
    bare         the policy forward and backward on the same tensors, prepared in advance; nothing else

`online` and `precomputed` are the trainer's own step: reading, noise, loss, backward, clipping, guards, optimizer, log
row. The arms alternate after every step, so that a slow phase of the machine affects all of them. Each arm uses one
thread. CPU-seconds are the cost per step; wall-clock seconds also include the time taken by other processes. Peak
memory is that of one process per arm.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import torch
from accelerate import Accelerator

from videodpo import cli
from videodpo.config.loading import read_config
from videodpo.dpo import trainer
from videodpo.dpo.batches import Batch, prediction_and_target
from videodpo.dpo.objectives import denoising_errors, preference_loss
from videodpo.dpo.optimizers import clip_gradients, make_optimizer
from videodpo.dpo.passes import Passes
from videodpo.dpo.policy import build_policy, trainable
from videodpo.models import load_model
from videodpo.models.base import collate
from videodpo.runtime.seeds import derive_seed
from videodpo.runtime.settings import TrainSettings
from videodpo.runtime.snapshot import Snapshot, load_snapshot, snapshot_text, write_snapshot
from videodpo.storage.files import write_json
from videodpo.storage.tables import commit, read_shards, read_table
from videodpo.storage.video import read_mp4
from videodpo.workflow.run import Workflow

ROOT = Path(__file__).resolve().parents[1]
WARM_UP = 10  # steps of each arm that are not counted
STAGES = ("prompts", "generate", "collect-scores", "omniscore", "pairs", "visits", "reference")
CPU, WALL = "cpu", "wall"
STEP_ENDS = ("clipping", "optimiser")  # parts that the bare arm does not have


class Clock:
    """CPU-seconds of one step by part."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)

    def start(self) -> None:
        self._seconds.clear()
        self._wall, self._begun = time.perf_counter(), time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        begun = time.process_time()
        yield
        self._seconds[name] += time.process_time() - begun

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return timed

    def stop(self) -> dict[str, float]:
        """CPU-seconds by part, of everything outside the parts and in total, and the wall-clock total."""
        total, wall = time.process_time() - self._begun, time.perf_counter() - self._wall
        return self._seconds | {"other": total - sum(self._seconds.values()), CPU: total, WALL: wall}


class Arm(Protocol):
    def step(self, number: int) -> dict[str, float]:
        """Take one step; return the result of `Clock.stop`."""


class Released:
    """The released code's step, which computes everything from the files every time."""

    def __init__(self, snapshot: Snapshot[TrainSettings], round_folder: Path) -> None:
        self._settings, self._run, self._clock = snapshot.settings, snapshot.folder, Clock()
        self._model = load_model(snapshot.settings.model, "cpu")
        self._model.keep_reference()
        if self._settings.train.method == "lora":
            self._model.add_lora(self._settings.train.lora, derive_seed(snapshot.seed, "lora"))
        else:
            self._model.denoiser.requires_grad_(True)
        self._weights = list(trainable(self._model).values())
        self._optimizer = make_optimizer(self._weights, self._settings.train)
        self._passes = Passes(snapshot, round_folder, self._model)
        self._files = read_shards(round_folder / "videos").set_index("video_id")["path"].to_dict()
        self._prompts = read_table(snapshot.folder / "prompts.parquet").set_index("prompt_id")["prompt"].to_dict()
        pairs = read_table(round_folder / "pairs.parquet")
        self._pairs = {row["pair_id"]: row for row in pairs.to_dict("records")}

    def step(self, number: int) -> dict[str, float]:
        clock, model = self._clock, self._model
        clock.start()
        batch = self._batch(number)
        with clock.part("policy forward"):
            prediction, target = prediction_and_target(model, batch)
        with clock.part("reference forward"), torch.no_grad(), model.reference_weights():
            reference, _ = prediction_and_target(model, batch)
        policy_w, policy_l = denoising_errors(prediction, target).chunk(2)
        ref_w, ref_l = denoising_errors(reference, target).chunk(2)
        objective, beta = self._settings.train.objective, self._passes.beta
        loss = preference_loss(objective, policy_w, policy_l, ref_w, ref_l, beta=beta, weight=batch.weight).loss
        with clock.part("backward"):
            loss.backward()
        with clock.part("clipping"):
            clip_gradients(self._weights, self._settings.train.max_grad_norm)
        with clock.part("optimiser"):
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
        return clock.stop()

    def _batch(self, number: int) -> Batch:
        count, clock, model = self._settings.schedule.micro_batch_size, self._clock, self._model
        visits = self._passes.plan.training[number * count : (number + 1) * count]
        rows = [self._pairs[visit.pair_id] for visit in visits]
        videos = [row[side] for side in ("winner_id", "loser_id") for row in rows]
        with clock.part("decoding"):
            frames = [read_mp4(self._run / self._files[video])[0] for video in videos]
        with clock.part("VAE"):
            latents = torch.stack([model.encode(clip) for clip in frames])
        with clock.part("text encoder"):
            texts = [model.encode_prompt(self._prompts[row["prompt_id"]]) for row in rows]
        noises = [torch.Generator().manual_seed(visit.noise_seed) for visit in visits]
        noise = torch.stack([torch.randn(latents.shape[1:], generator=generator) for generator in noises])
        return Batch(
            latents=latents,
            noise=torch.cat([noise, noise]),
            text=collate(texts + texts),
            noise_level=torch.tensor([visit.noise_level for visit in visits] * 2),
            weight=torch.tensor([row["weight"] for row in rows], dtype=torch.float32),
        )


class Trained:
    """The trainer's own step, with a clock around its parts."""

    def __init__(self, snapshot: Snapshot[TrainSettings], round_folder: Path) -> None:
        self._clock, self._rows = Clock(), list[dict[str, Any]]()
        self._training = trainer.Training(snapshot, round_folder, None, Accelerator(cpu=True))
        model, optimizer, accelerator = self._training.model, self._training.optimizer, self._training.accelerator
        ways = {"policy": self._clock.around("policy forward", model.predict)}
        ways["reference"] = self._clock.around("reference forward", model.predict)

        def predict(*args: Any) -> Any:
            return ways["policy" if torch.is_grad_enabled() else "reference"](*args)

        model.predict = predict  # type: ignore[assignment, method-assign]
        accelerator.backward = self._clock.around("backward", accelerator.backward)
        optimizer.step = self._clock.around("optimiser", optimizer.step)  # type: ignore[method-assign]
        optimizer.zero_grad = self._clock.around("optimiser", optimizer.zero_grad)  # type: ignore[method-assign]

    def step(self, number: int) -> dict[str, float]:
        with patch.object(trainer, "clip_gradients", self._clock.around("clipping", clip_gradients)):
            self._clock.start()
            row = self._training._step(number, self._rows)
            seconds = self._clock.stop()
        assert not row["skipped"]
        self._rows.append(row)
        return seconds


class Bare:
    """The policy alone, on prepared tensors."""

    def __init__(self, snapshot: Snapshot[TrainSettings], round_folder: Path) -> None:
        self._clock, self._count = Clock(), snapshot.settings.schedule.micro_batch_size
        self._model = build_policy(snapshot, None, "cpu")
        self._passes = Passes(snapshot, round_folder, self._model)
        self._weights = list(trainable(self._model).values())

    def step(self, number: int) -> dict[str, float]:
        visits = self._passes.plan.training[number * self._count : (number + 1) * self._count]
        batch, schedule = self._passes.data.batch(visits), self._model.noise_schedule
        noisy = schedule.add_noise(batch.latents, batch.noise, batch.noise_level)
        target = schedule.target(batch.latents, batch.noise, batch.noise_level)
        self._clock.start()
        with self._clock.part("policy forward"):
            prediction = self._model.predict(noisy, batch.noise_level, batch.text)
        loss = torch.nn.functional.mse_loss(prediction, target)
        with self._clock.part("backward"):
            loss.backward()
        seconds = self._clock.stop()
        for weight in self._weights:
            weight.grad = None
        return seconds


ARMS: dict[str, Callable[[Snapshot[TrainSettings], Path], Arm]] = {
    "released": Released,
    "online": Trained,
    "precomputed": Trained,
    "bare": Bare,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=("full", "lora"), nargs="+", default=["full"])
    parser.add_argument("--pairs-per-pass", type=int, default=1, help="pairs per forward pass and per step")
    parser.add_argument("--steps", type=int, default=200, help="steps of each arm that are counted")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folder", type=Path, help="pairs of an earlier call with the same settings")
    parser.add_argument("--arm", choices=ARMS, help="a few steps of one arm: for its peak memory")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "dpo-step" / "round1" / "reference").exists():
            _make_pairs(_settings(arguments, folder, "full"))  # both methods train on the same pairs
        if arguments.arm:
            write_json(arguments.out, _one_arm(arguments.arm, _settings(arguments, folder, *arguments.method)))
            return
        write_json(
            arguments.out,
            {
                "command": " ".join(["python", *sys.argv]),
                "commit": commit(),
                "machine": f"{platform.processor() or platform.machine()}, 1 thread, torch {torch.__version__}",
                "step": f"{arguments.pairs_per_pass} pairs per forward pass and per step; clips of 9 x 32 x 32",
                "steps_of_each_arm": arguments.steps,
                "methods": {method: _compare(arguments, folder, method) for method in arguments.method},
            },
        )
        print(arguments.out.read_text(encoding="utf-8"))


def _settings(arguments: argparse.Namespace, folder: Path, method: str) -> list[str]:
    """Settings that override the demo's preset."""
    pairs = arguments.pairs_per_pass
    return [
        "run=dpo-step",
        f"results={folder}",
        "prompts.num_train=24",
        "prompts.num_heldout=0",
        "generate.shards=1",
        "reference.shards=1",
        f"schedule.num_steps={WARM_UP + arguments.steps}",
        f"schedule.global_batch_size={pairs}",
        f"schedule.micro_batch_size={pairs}",
        f"train.method={method}",
        "train.skip_above_median=null",  # a skipped step has no optimizer step to time
        "train_runtime.trackers=[]",
    ]


def _make_pairs(settings: Sequence[str]) -> None:
    options = ["--config", "config.yaml", "--preset", "presets/demo.yaml"]
    for stage in STAGES:
        code = cli.main([stage, *options, *(word for setting in settings for word in ("--set", setting))])
        if code:
            raise RuntimeError(f"stage {stage}: it ended with {code}")


def _arm(name: str, settings: Sequence[str]) -> Arm:
    own = [*settings, f"train.reference={'precomputed' if name in ('precomputed', 'bare') else 'online'}"]
    workflow = Workflow(read_config(ROOT / "config.yaml", [ROOT / "presets" / "demo.yaml"], own))
    folder = Path(workflow.folder) / "config"
    write_snapshot(snapshot_text(workflow.config, "execution"), folder / "execution.json")
    write_snapshot(snapshot_text(workflow.config, "train"), folder / f"train-{name}.json")
    snapshot = load_snapshot(folder / f"train-{name}.json", "train")
    return ARMS[name](snapshot, snapshot.folder / "round1")


def _compare(arguments: argparse.Namespace, folder: Path, method: str) -> dict[str, Any]:
    arms = {name: _arm(name, _settings(arguments, folder, method)) for name in ARMS}
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    order = list(arms)
    for number in range(WARM_UP + arguments.steps):
        for name in order:
            seconds = arms[name].step(number)
            if number >= WARM_UP:
                taken[name].append(seconds)
        order = [*order[1:], order[0]]
    peak = {name: _peak_memory(arguments, folder, method, name) for name in arms}
    return {
        "arms": {name: _summary(steps) | {"peak_memory_mb": peak[name]} for name, steps in taken.items()},
        "ratios": {clock: _ratios(taken, clock) for clock in (CPU, WALL)},
    }


def _ratios(taken: dict[str, list[dict[str, float]]], clock: str) -> dict[str, float]:
    middle = {name: float(np.median([step[clock] for step in steps])) for name, steps in taken.items()}
    ratios = {
        "released / precomputed": middle["released"] / middle["precomputed"],
        "online / precomputed": middle["online"] / middle["precomputed"],
        "precomputed / bare": middle["precomputed"] / middle["bare"],
    }
    if clock == CPU:
        body = [step[CPU] - sum(step[part] for part in STEP_ENDS) for step in taken["precomputed"]]
        ratios["precomputed without clipping and optimiser / bare"] = float(np.median(body)) / middle["bare"]
    return {name: round(ratio, 3) for name, ratio in ratios.items()}


def _summary(steps: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Quartiles of the seconds per step, and medians of its parts."""
    parts = {name: float(np.median([step[name] for step in steps])) for name in steps[0] if name not in (CPU, WALL)}
    total = sum(parts.values())
    return {
        "quartiles_seconds": {
            clock: [round(float(value), 5) for value in np.percentile([step[clock] for step in steps], (25, 50, 75))]
            for clock in (CPU, WALL)
        },
        "parts_cpu_seconds": {name: round(value, 5) for name, value in parts.items()},
        "parts_share": {name: round(value / total, 3) for name, value in parts.items()},
    }


def _one_arm(name: str, settings: Sequence[str]) -> dict[str, int]:
    before = _memory_mb("VmRSS")
    arm = _arm(name, settings)
    for number in range(WARM_UP):
        arm.step(number)
    return {"libraries": before, "peak": _memory_mb("VmHWM")}


def _memory_mb(entry: str) -> int:
    # A process inherits ru_maxrss from its parent on Linux, but not this value.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split(f"{entry}:")[1].split()[0]) // 1024


def _peak_memory(arguments: argparse.Namespace, folder: Path, method: str, arm: str) -> dict[str, int]:
    out = folder / f"{arm}.json"
    options = [f"--method={method}", f"--pairs-per-pass={arguments.pairs_per_pass}", f"--steps={arguments.steps}"]
    options += [f"--out={out}", f"--folder={folder}", f"--arm={arm}"]
    subprocess.run([sys.executable, __file__, *options], check=True)
    peak: dict[str, int] = json.loads(out.read_text(encoding="utf-8"))
    return peak


if __name__ == "__main__":
    main()
