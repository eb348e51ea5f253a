"""The user's own clips to a videos table: the clips are copied and, like their prompts, encoded once."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from videodpo.config import Generate, Sampling
from videodpo.config.errors import InputError
from videodpo.models import load_model
from videodpo.runtime.rounds import round_folder
from videodpo.runtime.snapshot import GenerateSettings, Snapshot
from videodpo.stages.generate.encode import encode_missing
from videodpo.stages.generate.shards import Batch, Files, Part, Request, Row, empty_row, open_shard, wanted_prompts
from videodpo.storage.files import atomic_path, sha256_of
from videodpo.storage.tables import read_table
from videodpo.storage.video import UnreadableVideo, read_mp4, write_mp4

if TYPE_CHECKING:
    import torch

    from videodpo.models.base import VideoModel

BATCH = 8  # clips between two save points
RATE_TOLERANCE = 0.01  # 29.97 frames a second are 30


def import_shard(snapshot: Snapshot[GenerateSettings], round_number: int, index: int) -> None:
    """Import one shard of the clips in `clips.parquet` as `round<r>/videos`.

    A clip that cannot be read is a failed row. One with none of the sizes and lengths of `generate.sampling` is cut and
    scaled with `generate.fit_clips`, to the nearest of them in its proportions, and a failed row without.

    Raises:
        InputError: a round after the first, where videos come from the aligned model.
        RunError: more than `max_failed_fraction` of all clips failed.
    """
    if round_number != 1:
        raise InputError("rounds: clips of your own are for round 1; later rounds sample from the model")
    settings = snapshot.settings
    prompts = read_table(snapshot.folder / "prompts.parquet")
    words = dict(zip(prompts["prompt_id"], prompts["prompt"], strict=True))
    positions = {name: row for row, name in enumerate(words)}
    table = read_table(snapshot.folder / "clips.parquet")
    table = table.assign(position=table["prompt_id"].map(positions)).sort_values(["position", "sample"])
    requests = [
        Request(prompt_id, words[prompt_id], int(sample), 0)
        for prompt_id, sample in zip(table["prompt_id"], table["sample"], strict=True)
    ]
    sources = {request.video_id: Path(path) for request, path in zip(requests, table["path"], strict=True)}
    model: VideoModel | None = None
    with open_shard(
        snapshot,
        round_folder(snapshot.folder, 1) / "videos",
        index,
        settings.generate.shards,
        requests,
        BATCH,
        identity=snapshot.digest,
        common={"model": "import", "adapter": None},
        with_texts=True,
    ) as shard:
        wanted = partial(wanted_prompts, sampling=settings.generate.sampling)
        encode_missing(shard, wanted, settings.model, snapshot.execution.device)
        for batch in shard.unfinished():
            model = model or load_model(settings.model, snapshot.execution.device, parts={"vae"})
            shard.save(batch, _encoded(batch, model, sources, settings.generate, shard.files))


def _encoded(
    batch: Batch,
    model: VideoModel,
    sources: Mapping[str, Path],
    settings: Generate,
    files: Files,
) -> Part:
    """Copy and encode the clips of a batch."""
    import torch

    rows: list[Row] = []
    latents: dict[str, torch.Tensor] = {}
    dtype = getattr(torch, settings.sampling.latents_dtype)
    for request in batch.requests:
        row = empty_row(request)
        rows.append(row)
        try:
            copy, frames, fps = _take(sources[request.video_id], request, settings, files)
        except UnreadableVideo as error:
            row |= {"status": "failed", "error": str(error)}
            continue
        latent = model.encode(frames).to("cpu", dtype)
        if not torch.isfinite(latent).all():
            row |= {"status": "failed", "error": "the VAE gave NaN or infinite latents"}
            continue
        num_frames, height, width, _ = frames.shape
        row |= {"path": files.relative(copy), "sha256": sha256_of(copy)}
        row |= {"num_frames": num_frames, "height": height, "width": width, "fps": fps}
        latents[request.video_id] = latent.contiguous()
    return Part(rows, latents)


def _take(source: Path, request: Request, settings: Generate, files: Files) -> tuple[Path, np.ndarray, float]:
    """Copy one clip into the run, fitted if need be: the copy, its frames before any encoding, and their rate."""
    sampling, sizes = settings.sampling, settings.sampling.sizes
    # A second more than is needed, so that a clip that is too long is seen to be.
    frames, fps = read_mp4(source, max_seconds=max(size.num_frames for size in sizes) / sampling.fps + 1)
    copy = files.clips / f"{request.video_id}.mp4"
    if not fps or math.isclose(fps, sampling.fps, rel_tol=RATE_TOLERANCE):
        fps = sampling.fps
    known = [(size.num_frames, size.height, size.width) for size in sizes]
    if frames.shape[:3] in known and fps == sampling.fps:
        with atomic_path(copy) as partial:
            shutil.copyfile(source, partial)
        return copy, frames, fps
    if not settings.fit_clips:
        asked = " or ".join(f"{num_frames} of {height} x {width}" for num_frames, height, width in known)
        raise UnreadableVideo(
            f"{source.name}: {frames.shape[0]} frames of {frames.shape[1]} x {frames.shape[2]} at {fps:g} a second, "
            f"generate.sampling asks for {asked} at {sampling.fps:g}; generate.fit_clips: true cuts and scales"
        )
    frames = fit_frames(frames, fps, nearest_size(frames, fps, sizes), source.name)
    write_mp4(copy, frames, sampling.fps, crf=sampling.crf)
    return copy, frames, sampling.fps


def nearest_size(frames_TYXC: np.ndarray, fps: float, sizes: Sequence[Sampling]) -> Sampling:
    """The size with the clip's proportions, or the nearest by their ratio; of several, the longest that it can fill.

    Args:
        frames_TYXC: the clip. fps: its rate. sizes: where several are as good, the first of them is taken.
    """
    _, height, width, _ = frames_TYXC.shape

    def rank(size: Sampling) -> tuple[Fraction, int]:
        ratio = Fraction(size.height * width, size.width * height)
        is_filled = _picked(fps, size)[-1] < len(frames_TYXC)
        return max(ratio, 1 / ratio), -size.num_frames if is_filled else 0

    return min(sizes, key=rank)


def _picked(fps: float, sampling: Sampling) -> np.ndarray:
    """Numbers of the frames that lie at the wanted times."""
    numbers: np.ndarray = np.floor(np.arange(sampling.num_frames) * fps / sampling.fps + 0.5).astype(int)
    return numbers


def fit_frames(frames_TYXC: np.ndarray, fps: float, sampling: Sampling, name: str) -> np.ndarray:
    """Cut and scale a clip: its first `num_frames` at the rate `fps`, the middle of the wanted shape.

    Args:
        frames_TYXC: uint8 RGB. fps: of these frames.
        sampling: the wanted number of frames, rate, height and width. name: of the file, for the message.

    Raises:
        UnreadableVideo: the clip is too short.
    """
    import cv2

    picked = _picked(fps, sampling)
    if picked[-1] >= len(frames_TYXC):
        raise UnreadableVideo(
            f"{name}: {len(frames_TYXC)} frames at {fps:g} a second are too short for {sampling.num_frames} at "
            f"{sampling.fps:g}"
        )
    _, height, width, _ = frames_TYXC.shape
    scale = max(sampling.height / height, sampling.width / width)
    cut_y, cut_x = (
        min(side, round(want / scale)) for side, want in ((height, sampling.height), (width, sampling.width))
    )
    top, left = (height - cut_y) // 2, (width - cut_x) // 2
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    size = (sampling.width, sampling.height)
    middle = frames_TYXC[picked, top : top + cut_y, left : left + cut_x]
    return np.stack([cv2.resize(np.ascontiguousarray(frame), size, interpolation=method) for frame in middle])
