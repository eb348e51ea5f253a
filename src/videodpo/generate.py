"""Prompts to videos: one shard of clips, their latents and their table, resumable after every batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videodpo.config import Sampling
from videodpo.files import sha256_of, sha256_of_folder
from videodpo.frozen import EvaluateGenerateSettings, Frozen, GenerateSettings
from videodpo.models import load_model
from videodpo.models.base import Text, VideoModel, stack_texts
from videodpo.rounds import round_folder
from videodpo.seeds import derive_seed
from videodpo.shards import Request, Shard, empty_row, run_batches
from videodpo.tables import read_table
from videodpo.video import write_mp4

if TYPE_CHECKING:
    import torch


def generate_shard(frozen: Frozen[GenerateSettings], round_number: int, shard: int, adapter: Path | None) -> None:
    """Sample one shard of a round's training videos into `round<r>/videos`.

    Args:
        frozen: the stage's settings. round_number: from 1. shard: from 0.
        adapter: folder of the previous round's adapter, or None for the base model.

    Raises:
        RuntimeError: more than `max_failed_fraction` of all clips failed; what was made is kept for the next try.
    """
    settings = frozen.settings
    prompts = _prompts(frozen.folder, "train")
    requests = [
        Request(prompt_id, prompt, sample, derive_seed(frozen.seed, "video", round_number, prompt_id, sample))
        for prompt_id, prompt in prompts
        for sample in range(settings.generate.videos_per_prompt)
    ]
    videos = round_folder(frozen.folder, round_number) / "videos"
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
    videos = round_folder(frozen.folder, round_number) / "evaluation" / "videos" / arm
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
    adapter_name = f"{adapter.parent.name}/{adapter.name} {sha256_of_folder(adapter)[:12]}" if adapter else None
    place = Shard(frozen, videos, shard, num_shards, f"{frozen.digest} {adapter_name}")
    model: VideoModel | None = None
    texts: dict[str, Text] = {}  # encodings of the batch before: its last prompt may go on in the next

    def make(batch: Sequence[Request]) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
        nonlocal model, texts
        if model is None:  # loaded only when something is left to do
            model = load_model(model_settings, frozen.execution.device)
            if adapter:
                model.load_adapter(adapter)
        prompts = {request.prompt_id: request.prompt for request in batch}
        texts = {key: texts[key] if key in texts else model.encode_prompt(text) for key, text in prompts.items()}
        return _make_batch(model, batch, stack_texts([texts[request.prompt_id] for request in batch]), sampling, place)

    common = {"model": f"{model_settings.family} {model_settings.weights}", "adapter": adapter_name}
    run_batches(place, requests, sampling.batch_size, make, common)


def _make_batch(
    model: VideoModel, batch: Sequence[Request], text: Text, sampling: Sampling, place: Shard
) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    import torch

    latents_BCFHW = model.sample(text, [request.seed for request in batch], sampling)
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
