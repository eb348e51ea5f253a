"""Fabricated tables and clips of a finished round, for tests of the evaluation and the report."""

from __future__ import annotations

import copy
import hashlib
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import write_execution
from videodpo.config import Evaluate, OmniScore, Report, validate
from videodpo.demo_world.captions import random_scene
from videodpo.demo_world.render import DEFECTS, FPS, NUM_FRAMES, SIZE, render
from videodpo.runtime.settings import EvaluateSettings, OmniScoreSettings, ReportSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.storage.files import sha256_of
from videodpo.storage.schemas import (
    APPEARANCE,
    PAIRS,
    PAIRS_REJECTED,
    PROMPTS,
    PROMPTS_DROPPED,
    SCORES,
    STATISTICS,
    TRAIN_LOG,
    VIDEOS,
)
from videodpo.storage.tables import shard_path, write_table
from videodpo.storage.video import write_mp4

OMNISCORE = {
    "dimensions": {
        "imaging_quality": {"pillar": "quality", "min": 0.0, "max": 1.0},
        "motion_smoothness": {"pillar": "quality", "min": 0.5, "max": 1.0},
        "motion_amount": {"pillar": "quality", "min": 0.0, "max": 2.0, "weight": 0.5},
        "overall_consistency": {"pillar": "semantic", "min": 0.0, "max": 0.4},
    }
}
SCALES = {"imaging_quality": (0.3, 0.4), "motion_smoothness": (0.7, 0.25), "motion_amount": (0.4, 1.0)}
SCALES |= {"overall_consistency": (0.1, 0.2), "caption_accuracy": (0.2, 0.6)}
HOSTILE = "<script>alert('owned')</script> & \"quotes\" {{ 7 * 7 }}"


class FinishedRound:
    """Writes the inputs of the evaluation and the report; `rows` of a table can be changed before `write`."""

    def __init__(self, folder: Path, *, num_train: int = 4, num_heldout: int = 4, samples: int = 4, clips: bool = True):
        self.folder, self.round, self.samples, self.clips = folder, folder / "round1", samples, clips
        self.rng = np.random.default_rng(7)
        self.world = random.Random(7)
        self.prompts = [self._prompt(k, k < num_train) for k in range(num_train + num_heldout)]
        self.dropped = [
            {"row": 9, "prompt": "x", "step": "length", "reason": "shorter than 3 characters"},
            {"row": 12, "prompt": "a red ring", "step": "near_duplicate", "reason": "like row 3"},
            {"row": 14, "prompt": "a red ring!", "step": "near_duplicate", "reason": "like row 3"},
        ]
        self.videos = {"train": self._videos("train", samples, "videos")}
        self.scores = {"train": {name: self._scores("train", name, 0.0) for name in OMNISCORE["dimensions"]}}
        self.evaluation: dict[str, Any] = {"judges": {"caption_accuracy": {}}, "bootstrap_resamples": 500}
        self.evaluation["motion_dimension"] = "motion_amount"
        self.pillars: dict[str, float] = {}
        self.scaling = "range"
        self.from_clips = False
        for arm, shift in (("base", 0.0), ("aligned", 0.12)):
            self.videos[arm] = self._videos("heldout", 2, arm)
            self.scores[arm] = {name: self._scores(arm, name, shift) for name in SCALES}

    def _prompt(self, number: int, train: bool) -> dict[str, Any]:
        text = random_scene(self.world).caption if number else HOSTILE
        name = hashlib.sha256(f"{number} {text}".encode()).hexdigest()[:16]
        return {
            "prompt_id": name,
            "prompt": text,
            "source": "test",
            "split": "train" if train else "heldout",
            "position": number,
        }

    def _videos(self, split: str, samples: int, place: str) -> list[dict[str, Any]]:
        return [
            {
                "video_id": f"{prompt['prompt_id']}-{sample}",
                "prompt_id": prompt["prompt_id"],
                "sample": sample,
                "seed": 1,
                "status": "ok",
                "path": f"round1/clips/{place}-{prompt['prompt_id']}-{sample}.mp4",
                "sha256": "0" * 64,
                "num_frames": NUM_FRAMES,
                "height": SIZE,
                "width": SIZE,
                "fps": FPS,
                "model": "tiny",
                "adapter": "round1/adapter" if place == "aligned" else None,
            }
            for prompt in self.prompts
            if prompt["split"] == split
            for sample in range(samples)
        ]

    def _scores(self, arm: str, name: str, shift: float) -> list[dict[str, Any]]:
        low, width = SCALES[name]
        return [
            {
                "video_id": video["video_id"],
                "prompt_id": video["prompt_id"],
                "dimension": name,
                "value": float(low + width * np.clip(self.rng.normal(0.5 + shift, 0.2), 0, 1)),
                "status": "ok",
                "scorer": f"{name} 1",
            }
            for video in self.videos[arm]
        ]

    def save(self, name: str, rows: Any, schema: Any, stage: str, **extra: str) -> None:
        if not (self.folder / "config" / "execution.json").exists():
            write_execution(self.folder)
        digest = hashlib.sha256(stage.encode()).hexdigest()
        write_table(self.folder / name, rows, schema, stage=stage, digest=digest, seed=3, extra=extra)

    def write(self) -> FinishedRound:
        """Write all inputs of the evaluation, and the clips."""
        self.save("prompts.parquet", self.prompts, PROMPTS, "prompts")
        self.save("prompts_dropped.parquet", self.dropped, PROMPTS_DROPPED, "prompts")
        for arm, videos in self.videos.items():
            for video in videos if self.clips else ():
                if video["status"] == "ok":
                    self._clip(video, arm)
            above = Path("round1") if arm == "train" else Path("round1/evaluation")
            tail = "" if arm == "train" else arm
            self._shards(above / "videos" / tail, videos, VIDEOS, "generate")
            if arm != "train":
                self._appearance(arm, videos)
            for name, rows in self.scores[arm].items():
                self._shards(above / "scores" / tail / name, rows, SCORES, "score")
        return self

    def copy(self, folder: Path) -> FinishedRound:
        """Copy the run into a new folder."""
        shutil.copytree(self.folder, folder)
        copied = copy.copy(self)
        copied.folder, copied.round = folder, folder / "round1"
        return copied

    def sample_again(self, *prompt_ids: str) -> None:
        """Write the training videos as if the clips of some prompts had been sampled again; the clips stay."""
        other = {"sha256": "f" * 64}
        rows = [row | (other if row["prompt_id"] in prompt_ids else {}) for row in self.videos["train"]]
        self._shards(Path("round1/videos"), rows, VIDEOS, "generate")

    def _appearance(self, arm: str, videos: list[dict[str, Any]]) -> None:
        rng = np.random.default_rng(9)
        shift = 0.1 if arm == "aligned" else 0.0
        rows = [
            {
                **{key: video[key] for key in ("video_id", "prompt_id", "sample", "status")},
                **{name: float(0.3 + shift + 0.05 * rng.normal()) for name in STATISTICS},
            }
            for video in videos
        ]
        self.save(f"round1/evaluation/appearance/{arm}.parquet", rows, APPEARANCE, "appearance")

    def _shards(self, place: Path, rows: list[dict[str, Any]], schema: Any, stage: str) -> None:
        for shard in range(2):
            self.save(str(shard_path(place, shard)), rows[shard::2], schema, stage, num_shards="2")

    def _clip(self, video: dict[str, Any], arm: str) -> None:
        defect = self.world.choice(DEFECTS) if arm != "aligned" else None
        path = self.folder / video["path"]
        write_mp4(path, render(random_scene(self.world), self.world, defect=defect), FPS, crf=10)
        video["sha256"] = sha256_of(path)

    def write_training(self, omniscores: Any) -> None:
        """Write pairs (best and worst of each prompt), a rejected pair, and a training log."""
        pairs = []
        for number, (prompt_id, group) in enumerate(omniscores.groupby("prompt_id", sort=False)):
            ranked = group.sort_values("omniscore", ascending=False)
            best, worst = ranked.iloc[0], ranked.iloc[-1]
            pairs.append(
                {
                    "pair_id": number,
                    "prompt_id": prompt_id,
                    "winner_id": best.video_id,
                    "loser_id": worst.video_id,
                    "score_winner": best.omniscore,
                    "score_loser": worst.omniscore,
                    "gap": best.omniscore - worst.omniscore,
                    "probability": 0.1,
                    "weight": 1.0 + 0.1 * number,
                    "policy": "best_worst",
                    "label_source": "omniscore",
                }
            )
        self.save("round1/pairs.parquet", pairs, PAIRS, "pairs")
        rejected = [{"prompt_id": self.prompts[0]["prompt_id"], "reason": "gap below min_gap"}]
        self.save("round1/pairs_rejected.parquet", rejected, PAIRS_REJECTED, "pairs")
        self.write_train_log()

    def write_train_log(self) -> None:
        steps = np.arange(1, 121)
        noise = np.random.default_rng(8).normal(0, 1, (len(steps), 20))
        rise = 1 - np.exp(-steps / 40)
        log = {
            "step": steps,
            "epoch": steps / 40,
            "loss": 0.69 - 0.25 * rise + 0.05 * noise[:, 0],
            "margin": 1.2 * rise + 0.2 * noise[:, 1],
            "accuracy": np.clip(0.5 + 0.3 * rise + 0.1 * noise[:, 2], 0, 1),
            "ref_error_winner": 0.1 + 0.01 * noise[:, 3],
            "ref_error_loser": 0.1 + 0.01 * noise[:, 4],
            "weight_mean": np.ones(len(steps)),
            "lr": np.full(len(steps), 1e-4),
            "grad_norm": np.abs(noise[:, 5]),
            "skipped": np.zeros(len(steps), dtype=bool),
            "seconds": steps * 0.2,
            "samples_per_second": np.full(len(steps), 40.0),
            "max_memory_mb": np.full(len(steps), 900.0),
        }
        log["error_winner"] = log["ref_error_winner"] - 0.004 * rise + 0.001 * noise[:, 6]
        log["error_loser"] = log["ref_error_loser"] + 0.003 * rise + 0.001 * noise[:, 7]
        for bucket in range(4):
            log[f"winner_drift_{bucket}"] = -0.002 * (bucket + 1) * rise + 0.001 * noise[:, 8 + bucket]
            log[f"loser_drift_{bucket}"] = 0.0015 * (bucket + 1) * rise + 0.001 * noise[:, 12 + bucket]
        rows = [{name: values[k].item() for name, values in log.items()} for k in range(len(steps))]
        self.save("round1/train_log.parquet", rows, TRAIN_LOG, "train")

    def omniscore_snapshot(self) -> Snapshot[OmniScoreSettings]:
        return self._snapshot("omniscore", OmniScoreSettings(omniscore=self._omniscore()))

    def _omniscore(self) -> OmniScore:
        return validate(OmniScore, OMNISCORE | {"pillars": self.pillars, "scaling": self.scaling})

    def evaluate_snapshot(self, *, max_failed_fraction: float = 0.5) -> Snapshot[EvaluateSettings]:
        settings = EvaluateSettings(
            evaluate=validate(Evaluate, self.evaluation),
            omniscore=self._omniscore(),
            dimensions=list(SCALES),
            from_clips=self.from_clips,
        )
        write_execution(self.folder, max_failed_fraction=max_failed_fraction)
        return self._snapshot("evaluate", settings)

    def report_snapshot(self, *, num_pairs: int = 3, num_comparisons: int = 3) -> Snapshot[ReportSettings]:
        shown = Report(num_pairs=num_pairs, num_comparisons=num_comparisons)
        return self._snapshot("report", ReportSettings(report=shown, dimensions=list(SCALES)))

    def _snapshot(self, stage: str, settings: Any) -> Snapshot[Any]:
        if not (self.folder / "config" / "execution.json").exists():
            write_execution(self.folder)
        digest = hashlib.sha256(stage.encode()).hexdigest()
        return Snapshot(stage, "tiny-run", self.folder, 3, settings, digest, weights={})
