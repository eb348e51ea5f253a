"""Prompts to videos: one shard of clips, their latents and their table, resumable after every batch."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videodpo import registry
from videodpo.config import Sampling
from videodpo.device import choose_device
from videodpo.files import atomic_path, exclusive, sha256_of
from videodpo.frozen import EvaluateGenerateSettings, Frozen, GenerateSettings
from videodpo.plan import shard_batches
from videodpo.seeds import derive_seed
from videodpo.tables import VIDEOS, read_metadata, read_table, shard_path, write_table
from videodpo.video import write_mp4

if TYPE_CHECKING:
    import torch

    from videodpo.models.base import VideoModel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """One video to be made."""

    prompt_id: str
    prompt: str
    sample: int
    seed: int

    @property
    def video_id(self) -> str:
        return f"{self.prompt_id}-{self.sample}"


@dataclass(frozen=True)
class Shard:
    """Where one shard lies, and what a finished batch of it must have been made with."""

    frozen: Frozen[Any]
    videos: Path
    shard: int
    num_shards: int
    made_with: str

    @property
    def clips(self) -> Path:
        return self.videos / "clips" / f"shard-{self.shard:05d}"

    @property
    def latents(self) -> Path:
        return self.videos / "latents" / f"shard-{self.shard:05d}.safetensors"

    @property
    def work(self) -> Path:
        return self.videos / "work" / f"shard-{self.shard:05d}"

    def relative(self, path: Path) -> str:
        return path.relative_to(self.frozen.folder).as_posix()


def generate_shard(frozen: Frozen[GenerateSettings], round_number: int, shard: int, adapter: Path | None) -> None:
    """Sample one shard of a round's training videos into `round<r>/videos`.

    Args:
        frozen: the stage's settings. round_number: from 1. shard: from 0.
        adapter: folder of the previous round's adapter, or None for the base model.

    Raises:
        RuntimeError: more than `max_failed_fraction` of the clips failed; what was made is kept for the next try.
    """
    settings = frozen.settings
    prompts = _prompts(frozen.folder, "train")
    requests = [
        Request(prompt_id, prompt, sample, derive_seed(frozen.seed, "video", round_number, prompt_id, sample))
        for prompt_id, prompt in prompts
        for sample in range(settings.generate.videos_per_prompt)
    ]
    videos = frozen.folder / f"round{round_number}" / "videos"
    _sample_shard(frozen, requests, videos, shard, settings.generate.shards, settings.generate.sampling, adapter)


def generate_heldout_shard(
    frozen: Frozen[EvaluateGenerateSettings], round_number: int, shard: int, arm: str, adapter: Path | None
) -> None:
    """Sample one shard of the held-out prompts into `round<r>/evaluation/videos/<arm>`; both arms share their seeds.

    Args and errors: as `generate_shard`; `arm` is "base" or "aligned".
    """
    settings = frozen.settings
    requests = [
        Request(prompt_id, prompt, sample, derive_seed(frozen.seed, "heldout video", prompt_id, sample))
        for prompt_id, prompt in _prompts(frozen.folder, "heldout")
        for sample in range(settings.videos_per_prompt)
    ]
    videos = frozen.folder / f"round{round_number}" / "evaluation" / "videos" / arm
    _sample_shard(frozen, requests, videos, shard, settings.shards, settings.sampling, adapter)


def _prompts(folder: Path, split: str) -> list[tuple[str, str]]:
    table = read_table(folder / "prompts.parquet")
    table = table[table["split"] == split].sort_values("position")
    return list(zip(table["prompt_id"], table["prompt"], strict=True))


def _sample_shard(
    frozen: Frozen[Any],
    requests: Sequence[Request],
    videos: Path,
    shard: int,
    num_shards: int,
    sampling: Sampling,
    adapter: Path | None,
) -> None:
    model_settings = frozen.settings.model
    adapter_name = f"{adapter.parent.name}/{adapter.name} {_folder_digest(adapter)[:12]}" if adapter else None
    place = Shard(frozen, videos, shard, num_shards, f"{frozen.digest} {adapter_name}")
    model: VideoModel | None = None

    def make(batch: Sequence[Request]) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
        nonlocal model
        if model is None:  # loaded only when something is left to do
            model = registry.load("videodpo.models", model_settings.family)(
                model_settings, choose_device(frozen.settings.device)
            )
            if adapter:
                model.load_adapter(adapter)
        return _make_batch(model, batch, sampling, place)

    common = {"model": f"{model_settings.family} {model_settings.weights}", "adapter": adapter_name}
    run_batches(place, requests, sampling.batch_size, make, common)


def run_batches(
    place: Shard,
    requests: Sequence[Request],
    batch_size: int,
    make: Callable[[Sequence[Any]], tuple[list[dict[str, Any]], dict[str, torch.Tensor]]],
    common: dict[str, Any],
) -> None:
    """Make what a shard lacks, batch by batch, then write its table and latents.

    A batch is done once its part table is in the work folder; a killed job goes on after the last one.
    """
    with exclusive(place.videos / "work" / f"shard-{place.shard:05d}.lock"):
        parts = []
        for number, positions in shard_batches(len(requests), batch_size, place.shard, place.num_shards):
            part = place.work / f"batch-{number:06d}.parquet"
            if not _is_done(part, place):
                rows, latents = make([requests[position] for position in positions])
                _save_part(part, [row | common for row in rows], latents, place)
                log.info("%s: batch %d done", place.work.name, number)
            parts.append(part)
        _finish(place, parts)


def _make_batch(
    model: VideoModel, batch: Sequence[Request], sampling: Sampling, place: Shard
) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    import torch

    texts = {request.prompt_id: request.prompt for request in batch}
    embedded = {prompt_id: model.encode_prompt(prompt) for prompt_id, prompt in texts.items()}
    text_BLD = torch.stack([embedded[request.prompt_id] for request in batch])
    noise_BCFHW = torch.stack([model.draw_noise(request.seed, sampling) for request in batch])
    latents_BCFHW = model.sample(text_BLD, noise_BCFHW, sampling)
    frames_BTYXC = model.decode(latents_BCFHW)
    rows, latents = [], {}
    for request, latent, frames in zip(batch, latents_BCFHW, frames_BTYXC, strict=True):
        row = empty_row(request)
        if torch.isfinite(latent).all():
            path = place.clips / f"{request.video_id}.mp4"
            write_mp4(path, frames, sampling.fps, crf=sampling.crf)
            num_frames, height, width, _ = frames.shape
            row |= {"path": place.relative(path), "sha256": sha256_of(path)}
            row |= {"num_frames": num_frames, "height": height, "width": width, "fps": sampling.fps}
            latents[request.video_id] = latent.to("cpu", getattr(torch, sampling.latents_dtype)).contiguous()
        else:
            row |= {"status": "failed", "error": "the model gave NaN or infinite latents"}
        rows.append(row)
    return rows, latents


def empty_row(request: Request) -> dict[str, Any]:
    """A videos row with everything that is known before the clip is made."""
    row: dict[str, Any] = dict.fromkeys(VIDEOS.names)
    row |= {"video_id": request.video_id, "prompt_id": request.prompt_id, "sample": request.sample}
    return row | {"seed": request.seed, "status": "ok"}


def _is_done(part: Path, place: Shard) -> bool:
    """A part counts if it was made with the same settings and its clips are still what they were."""
    if not part.exists() or read_metadata(part).get("made_with") != place.made_with:
        return False
    rows = read_table(part)
    for path, digest in rows.loc[rows["status"] == "ok", ["path", "sha256"]].itertuples(index=False):
        clip = place.frozen.folder / path
        if not clip.exists() or sha256_of(clip) != digest:
            return False
    return part.with_suffix(".safetensors").exists()


def _save_part(part: Path, rows: list[dict[str, Any]], latents: dict[str, torch.Tensor], place: Shard) -> None:
    from safetensors.torch import save_file

    with atomic_path(part.with_suffix(".safetensors")) as partial:
        save_file(latents, partial)
    frozen = place.frozen
    extra = {"made_with": place.made_with}
    write_table(part, rows, VIDEOS, stage=frozen.stage, digest=frozen.digest, seed=frozen.seed, extra=extra)


def _finish(place: Shard, parts: Sequence[Path]) -> None:
    from safetensors.torch import load_file, save_file

    rows: list[dict[str, Any]] = []
    tensors: dict[str, torch.Tensor] = {}
    for part in parts:
        latents = load_file(part.with_suffix(".safetensors"))
        for row in read_table(part).to_dict("records"):
            row = {key: None if value != value else value for key, value in row.items()}
            if row["video_id"] in latents:
                name = str(len(rows))
                tensors[name] = latents[row["video_id"]]
                row["latents"] = f"{place.relative(place.latents)}#{name}"
            rows.append(row)
    frozen = place.frozen
    refuse_too_many_failures(rows, frozen.settings.max_failed_fraction)
    with atomic_path(place.latents) as partial:
        save_file(tensors, partial)
    kept = {f"{row['video_id']}.mp4" for row in rows if row["status"] == "ok"}
    for stale in place.clips.glob("*.mp4"):  # of an earlier plan
        if stale.name not in kept:
            stale.unlink()
    write_table(
        shard_path(place.videos, place.shard),
        rows,
        VIDEOS,
        stage=frozen.stage,
        digest=frozen.digest,
        seed=frozen.seed,
        extra={"shard": str(place.shard), "num_shards": str(place.num_shards)},
    )
    if place.work.exists():
        shutil.rmtree(place.work)


def refuse_too_many_failures(rows: Sequence[dict[str, Any]], allowed: float) -> None:
    """Raise RuntimeError with the reasons when more than the allowed share of the rows failed."""
    failed = [row for row in rows if row["status"] == "failed"]
    if rows and len(failed) > allowed * len(rows):
        reasons = "\n  ".join(f"{row['video_id']}: {row['error']}" for row in failed[:10])
        raise RuntimeError(
            f"{len(failed)} of {len(rows)} clips failed, max_failed_fraction is {allowed}; the first:\n  {reasons}"
        )


def _folder_digest(folder: Path) -> str:
    import hashlib

    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listing = "\n".join(f"{path.relative_to(folder)} {sha256_of(path)}" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()
