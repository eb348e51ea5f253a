"""A model and a scorer that sleep for a known time and record their calls."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path

from videodpo.models.wan import WanModel
from videodpo.scorers.base import Scorer

SECONDS = "SLOW_SECONDS"
RECORD = "SLOW_RECORD"


def take_time(what: object) -> None:
    """If a record is requested, sleep, then append the piece of work: stage, job, and its identifier."""
    if RECORD not in os.environ:
        return
    time.sleep(float(os.environ[SECONDS]))
    piece = hashlib.sha256(repr(what).encode()).hexdigest()[:16]
    job = int(os.environ.get("SLURM_JOB_ID", os.getpid()))
    row = {"stage": sys.argv[1], "job": job, "piece": piece, "time": time.time()}
    with Path(os.environ[RECORD]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


class SlowWan(WanModel):
    """Sampling sleeps per batch; reference errors and the fine-tune sleep per micro-batch."""

    def sample(self, text, seeds, sampling, negative=None):
        take_time(list(seeds))
        return super().sample(text, seeds, sampling, negative)

    def predict(self, noisy_BCFHW, level_B, text):
        if sys.argv[1:2] in (["reference"], ["train"]):
            take_time(level_B.tolist())
        return super().predict(noisy_BCFHW, level_B, text)


class Slow(Scorer):
    """The mean of all pixels, slowly."""

    version = "1"

    def __init__(self, options, device):
        pass

    def score(self, clip):
        take_time(clip.frames_THWC.tobytes())
        return float(clip.frames_THWC.mean()) / 255
