"""Appearance stage: statistics of the held-out clips' pixels, and how much the seeds of a prompt differ.

A scorer never sees these numbers, so they show what a training on scores does besides raising them.

Legend: T frames, H, W pixels, C channel, N clips of a prompt, D embedding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videodpo.config import validate
from videodpo.runtime import registry
from videodpo.runtime.countdown import Countdown
from videodpo.runtime.locks import exclusive
from videodpo.runtime.settings import AppearanceSettings
from videodpo.runtime.signals import Interrupts
from videodpo.runtime.snapshot import Snapshot
from videodpo.scorers.base import Clip
from videodpo.scorers.shared.backbone import arithmetic
from videodpo.scorers.shared.consistency import ConsistencyScorer
from videodpo.scorers.shared.middle_frames import middle_frames
from videodpo.storage.clips import read_clip
from videodpo.storage.manifests import Damaged
from videodpo.storage.progress import Progress
from videodpo.storage.schemas import APPEARANCE
from videodpo.storage.tables import read_rows, shard_paths, write_table
from videodpo.storage.video import decode_mp4

log = logging.getLogger(__name__)

LONGER_SIDE = 512  # larger frames are scaled down, so that sharpness does not depend on the resolution alone
WHITE = 250  # a pixel whose luma, 0 to 255, reaches this has no more detail in its highlights
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # Rec. 709, applied to the stored values

Embed = Callable[[Clip], list[float]]


def measure_appearance(snapshot: Snapshot[AppearanceSettings], round_folder: Path, arm: str) -> None:
    """Write `evaluation/appearance/<arm>.parquet`, one row per held-out clip of the arm.

    A killed job resumes from its progress log.

    Args:
        snapshot: the stage's settings.
        round_folder: folder of the round.
        arm: `base` or `aligned`.

    Raises:
        InputError: a videos table is missing or unreadable, or the scorer's options are wrong.
        Damaged: a clip is missing, or differs from its SHA-256.
        Interrupted: a signal asked to stop; finished clips are saved.
    """
    evaluation = round_folder / "evaluation"
    final = evaluation / "appearance" / f"{arm}.parquet"
    with exclusive(snapshot.folder, final):
        videos = [video for path in shard_paths(evaluation / "videos" / arm) for video in read_rows(path)]
        progress = Progress(final.parent / "work" / f"{arm}.jsonl", snapshot.digest)
        known = {one["sha256"]: one for one in progress.finished}
        made = [video for video in videos if video["status"] == "ok"]
        todo = [video for video in made if video["sha256"] not in known]
        with (
            Countdown(log, f"appearance of {arm}", len(made), "clips", done=len(made) - len(todo)) as countdown,
            Interrupts() as interrupts,
        ):
            embed = _make_embedding(snapshot) if todo else None
            for number, video in enumerate(todo, start=1):
                known[video["sha256"]] = measured = _measure(snapshot.folder / video["path"], video["sha256"], embed)
                progress.append(measured)
                countdown.add(1, item=video["video_id"])
                interrupts.stop_here(f"clip {number} of {len(todo)}")
        rows = [_row(video, known.get(video["sha256"])) for video in videos]
        _add_distances(rows, known, videos)
        write_table(final, rows, APPEARANCE, **snapshot.provenance)


def pixel_statistics(frames_THWC: NDArray[np.uint8]) -> dict[str, float]:
    """Statistics of a clip's frames, each a mean over the frames, in 0..1.

    - exposure: mean luma (0 black, 1 white).
    - overexposed: share of pixels with a luma of at least 250 of 255.
    - saturation: mean difference of the largest and the smallest colour channel. Unlike the S of HSV, it does not call
      nearly black pixels colourful.
    - contrast: standard deviation of the luma over the pixels of a frame.
    - sharpness: standard deviation of the luma's Laplacian, 1 for a chess board of single pixels; noise raises it too.
    """
    found = [_frame_statistics(frame_HWC) for frame_HWC in frames_THWC]
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}


def seed_distances(embeddings_ND: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean cosine distance of each clip to the other clips of its prompt, [N]; their mean is the pairwise mean.

    Args:
        embeddings_ND: one embedding per clip, of length 1; at least two.
    """
    count = len(embeddings_ND)
    distances: NDArray[np.float64] = 1.0 - embeddings_ND @ embeddings_ND.T
    np.fill_diagonal(distances, 0.0)
    means_N: NDArray[np.float64] = np.clip(distances.sum(axis=1) / (count - 1), 0.0, 2.0)
    return means_N


def _frame_statistics(frame_HWC: NDArray[np.uint8]) -> dict[str, float]:
    import cv2

    height, width = frame_HWC.shape[:2]
    scale = LONGER_SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        frame_HWC = cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    luma_HW = frame_HWC.astype(np.float32) @ _LUMA
    chroma_HW = frame_HWC.max(axis=2).astype(np.float32) - frame_HWC.min(axis=2)
    return {
        "exposure": float(luma_HW.mean(dtype=np.float64)) / 255,
        "overexposed": float((luma_HW >= WHITE).mean()),
        "saturation": float(chroma_HW.mean(dtype=np.float64)) / 255,
        "contrast": float(luma_HW.std(dtype=np.float64)) / 255,
        "sharpness": float(cv2.Laplacian(luma_HW, cv2.CV_32F).std(dtype=np.float64)) / 4 / 255,
    }


def _make_embedding(snapshot: Snapshot[AppearanceSettings]) -> Embed | None:
    """Load the network of a consistency scorer, and return the function that embeds a clip; None without a scorer.

    The embedding is the mean of the frames' embeddings, of length 1. It does not depend on the prompt.
    """
    name = snapshot.settings.embedder
    if name is None:
        return None
    kind = registry.load("videodpo.scorers", name)
    options = validate(kind.Options, snapshot.settings.options, f"dimensions.{name}.options")
    scorer: ConsistencyScorer = kind(options, snapshot.execution.device)

    def embed(clip: Clip) -> list[float]:
        backbone = scorer.backbone
        backbone.refuse(clip)
        parts = [(clip, number) for number in range(len(clip.frames_THWC))]
        most = backbone.batch_size(*clip.frames_THWC.shape[1:3])
        with arithmetic(tf32=backbone.tf32):
            outputs = [one for start in range(0, len(parts), most) for one in backbone.outputs(parts[start:][:most])]
        frames_TD = np.stack([one.double().numpy() for one in scorer.embeddings(clip, dict(enumerate(outputs)))])
        mean_D = frames_TD.mean(axis=0)
        return list(map(float, mean_D / np.linalg.norm(mean_D)))

    return embed


def _measure(path: Path, sha256: str, embed: Embed | None) -> dict[str, Any]:
    """Statistics and embedding of one clip, for the progress log; or the reason why there are none."""
    try:
        frames_THWC, fps = decode_mp4(read_clip(path, sha256), path.name)
        clip = Clip(frames_THWC[sorted(set(middle_frames(len(frames_THWC))))], fps, prompt="")
        statistics = pixel_statistics(clip.frames_THWC)
        return {"sha256": sha256, "statistics": statistics, "embedding": embed(clip) if embed else None, "error": None}
    except Damaged:
        raise
    except ValueError as error:
        return {"sha256": sha256, "statistics": {}, "embedding": None, "error": str(error)}


def _row(video: Mapping[str, Any], measured: Mapping[str, Any] | None) -> dict[str, Any]:
    error = video["error"] if measured is None else measured["error"]
    return {
        **{key: video[key] for key in ("video_id", "prompt_id", "sample")},
        "status": "ok" if measured and error is None else "failed",
        "error": error,
        "seed_distance": None,
        **(measured["statistics"] if measured else {}),
    }


def _add_distances(rows: list[dict[str, Any]], known: Mapping[str, Any], videos: list[dict[str, Any]]) -> None:
    """Fill the column seed_distance for the prompts that have at least two embedded clips."""
    of_prompt: dict[str, list[tuple[dict[str, Any], list[float]]]] = {}
    for row, video in zip(rows, videos, strict=True):
        embedding = known.get(video["sha256"], {}).get("embedding")
        if embedding is not None:
            of_prompt.setdefault(row["prompt_id"], []).append((row, embedding))
    for clips in of_prompt.values():
        if len(clips) > 1:
            distances = seed_distances(np.array([embedding for _, embedding in clips]))
            for (row, _), distance in zip(clips, distances, strict=True):
                row["seed_distance"] = float(distance)
