"""Import the user's own clips as a videos table: copy the clips, and encode clips and prompts once."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from videodpo.config import Generate, Sampling
from videodpo.config.errors import InputError
from videodpo.models import load_model
from videodpo.runtime.rounds import round_folder
from videodpo.runtime.settings import GenerateSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.generate.encode import encode_missing
from videodpo.stages.generate.fitting import describe, fit_frames, is_exact, nearest_size
from videodpo.stages.generate.shards import IMPORTED, Files, Part, Request, Row, empty_row, open_shard
from videodpo.storage.clips import file_of, read_content
from videodpo.storage.files import atomic_path, sha256_of
from videodpo.storage.tables import read_table
from videodpo.storage.video import UnreadableVideo, read_film, write_mp4

if TYPE_CHECKING:
    import torch

    from videodpo.models.base import VideoModel

BATCH = 8  # clips per save point


def import_shard(snapshot: Snapshot[GenerateSettings], round_number: int, index: int) -> None:
    """Import one shard of the clips in `clips.parquet` as `round<r>/videos`.

    A clip that cannot be read becomes a failed row. So does a clip with none of the sizes and lengths of
    `generate.sampling`, unless `generate.fit_clips` is true: it is then cropped and scaled to the size with the nearest
    aspect ratio. An MP4 that fits and that every browser plays is copied byte for byte; all others are re-encoded.

    Args:
        snapshot: settings of the stage.
        round_number: from 1.
        index: index of the shard, from 0.

    Raises:
        InputError: the round is not the first; videos of later rounds come from the aligned model.
        RunError: more than `max_failed_fraction` of all clips failed.
    """
    if round_number != 1:
        raise InputError("rounds: your own clips are for round 1; later rounds sample from the model")
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
    sources = read_sources(snapshot.folder)
    model: VideoModel | None = None
    with open_shard(
        snapshot,
        round_folder(snapshot.folder, 1) / "videos",
        index,
        settings.generate.shards,
        requests,
        BATCH,
        identity=f"{snapshot.digest} {digest_of_sources(sources)}",
        common={},
        with_texts=True,
    ) as shard:
        encode_missing(shard, settings.generate.sampling, settings.model, snapshot.execution.device)
        for batch in shard.unfinished():
            model = model or load_model(settings.model, snapshot.execution.device, parts={"vae"})
            sizes = settings.generate.sampling.sizes
            shard.save(batch, encode_clips(batch.requests, model, sources, settings.generate, sizes, shard.files))


def read_sources(run: Path) -> dict[str, Path]:
    """The user's file of each clip in `clips.parquet`, by video_id."""
    table = read_table(run / "clips.parquet")
    return {
        f"{prompt_id}-{sample}": Path(path)
        for prompt_id, sample, path in zip(table["prompt_id"], table["sample"], table["path"], strict=True)
    }


def digest_of_sources(sources: Mapping[str, Path]) -> str:
    """SHA-256 of the names of the user's files, so that another list imports its own clips."""
    return hashlib.sha256("\n".join(f"{key} {path}" for key, path in sources.items()).encode()).hexdigest()


def encode_clips(
    requests: Sequence[Request],
    model: VideoModel,
    sources: Mapping[str, Path],
    settings: Generate,
    sizes: Sequence[Sampling],
    files: Files,
) -> Part:
    """Copy and encode one batch of the user's own clips.

    Args:
        requests: clips to import.
        model: its VAE is used.
        sources: the user's file of each clip, by video_id.
        settings: sampling settings, and whether clips are fitted to them.
        sizes: allowed sizes.
        files: paths of the shard.
    """
    import torch

    rows: list[Row] = []
    latents: dict[str, torch.Tensor] = {}
    dtype = getattr(torch, settings.sampling.latents_dtype)
    for request in requests:
        row = empty_row(request) | {"model": IMPORTED, "adapter": None}
        rows.append(row)
        try:
            with _as_file(sources[request.video_id], files) as source:
                copy, frames, fps = _take(source, request, settings, sizes, files)
        except UnreadableVideo as error:
            row |= {"status": "failed", "error": str(error)}
            continue
        latent = model.encode(frames).to("cpu", dtype)
        if not torch.isfinite(latent).all():
            row |= {"status": "failed", "error": "the VAE encoded it to NaN or infinite latents"}
            continue
        num_frames, height, width, _ = frames.shape
        row |= {"path": files.relative(copy), "sha256": sha256_of(copy)}
        row |= {"num_frames": num_frames, "height": height, "width": width, "fps": fps}
        latents[request.video_id] = latent.contiguous()
    return Part(rows, latents)


@contextmanager
def _as_file(source: Path, files: Files) -> Iterator[Path]:
    """Yield a clip's own file, or a temporary copy of its byte range in a tar file."""
    archive = file_of(source)
    if archive == source or not archive.is_file():
        yield archive
        return
    copy = files.work / f"{source.name}.mp4"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_bytes(read_content(source))
    try:
        yield copy
    finally:
        copy.unlink()


def _take(
    source: Path, request: Request, settings: Generate, sizes: Sequence[Sampling], files: Files
) -> tuple[Path, np.ndarray, float]:
    """Copy one clip into the run, fitted or re-encoded if needed; return the copy, its frames and their rate."""
    sampling = settings.sampling
    # Decode one second more than needed, so that a clip that is too long is recognised.
    film = read_film(source, max_seconds=max(size.num_frames for size in sizes) / sampling.fps + 1)
    copy = files.clips / f"{request.video_id}.mp4"
    fits = any(is_exact(film, size) for size in sizes)
    if fits and film.plays_in_browsers:
        with atomic_path(copy) as partial:
            shutil.copyfile(source, partial)
        return copy, film.frames_THWC, sampling.fps
    if not fits and not settings.fit_clips:
        asked = " or ".join(f"{size.num_frames} of {size.height} x {size.width}" for size in sizes)
        raise UnreadableVideo(
            f"{film.name}: {describe(film)}, generate.sampling asks for {asked} at {sampling.fps:g} fps; "
            "generate.fit_clips: true crops and scales such clips"
        )
    frames = film.frames_THWC if fits else fit_frames(film, nearest_size(film, sizes))
    write_mp4(copy, frames, sampling.fps, crf=sampling.crf)
    return copy, frames, sampling.fps
