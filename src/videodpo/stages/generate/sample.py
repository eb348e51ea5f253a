"""Prompts to videos: one shard of clips, their latents, texts and table, resumable after every batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from videodpo.config import Sampling
from videodpo.models import load_model
from videodpo.models.base import PromptEmbeds, VideoModel, collate
from videodpo.models.shared.prompt_embeds import encode_prompts, strip_padding
from videodpo.runtime.rounds import round_folder
from videodpo.runtime.seeds import derive_seed
from videodpo.runtime.snapshot import EvaluateGenerateSettings, GenerateSettings, Snapshot
from videodpo.stages.generate.shards import Part, Request, Shard, empty_row, run_batches, wanted_prompts
from videodpo.storage.files import sha256_of, sha256_of_folder
from videodpo.storage.tables import read_table
from videodpo.storage.video import write_mp4

if TYPE_CHECKING:
    import numpy as np
    import torch


def generate_shard(snapshot: Snapshot[GenerateSettings], round_number: int, index: int, adapter: Path | None) -> None:
    """Sample one shard of a round's training videos into `round<r>/videos`.

    All clips of a prompt have the size that it draws among the sampling's, so that they can be paired.

    Args:
        snapshot: the stage's settings. round_number: from 1. shard: from 0.
        adapter: folder of the previous round's adapter, or None for the base model.

    Raises:
        RuntimeError: more than `max_failed_fraction` of all clips failed; what was made is kept for the next try.
    """
    settings = snapshot.settings
    seed_of = partial(derive_seed, snapshot.seed, "video", round_number)
    requests = _Requests(_prompts(snapshot.folder, "train"), settings.generate.videos_per_prompt, seed_of)
    videos = round_folder(snapshot.folder, round_number) / "videos"
    shard = _shard(snapshot, videos, index, settings.generate.shards, adapter, with_texts=True)
    _sample_shard(shard, requests, settings.generate.sampling, adapter)


def generate_heldout_shard(
    snapshot: Snapshot[EvaluateGenerateSettings], round_number: int, index: int, arm: str, adapter: Path | None
) -> None:
    """Sample one shard of the held-out prompts into `round<r>/evaluation/videos/<arm>`; both arms share their seeds.

    Args and errors: as `generate_shard`; `arm` is "base" or "aligned".
    """
    settings = snapshot.settings
    seed_of = partial(derive_seed, snapshot.seed, "heldout video")
    requests = _Requests(_prompts(snapshot.folder, "heldout"), settings.videos_per_prompt, seed_of)
    videos = round_folder(snapshot.folder, round_number) / "evaluation" / "videos" / arm
    shard = _shard(snapshot, videos, index, settings.shards, adapter, with_texts=False)
    _sample_shard(shard, requests, settings.sampling, adapter)


class _Requests(Sequence[Request]):
    """Every sample of every prompt, each made when it is asked for: a shard asks for few of millions."""

    def __init__(self, prompts: Sequence[tuple[str, str]], samples: int, seed_of: Callable[[str, int], int]) -> None:
        self._prompts, self._samples, self._seed_of = prompts, samples, seed_of

    def __len__(self) -> int:
        return len(self._prompts) * self._samples

    def __getitem__(self, shard: Any) -> Any:
        number, sample = divmod(range(len(self))[shard], self._samples)
        prompt_id, prompt = self._prompts[number]
        return Request(prompt_id, prompt, sample, self._seed_of(prompt_id, sample))


def _prompts(folder: Path, split: str) -> list[tuple[str, str]]:
    table = read_table(folder / "prompts.parquet")
    table = table[table["split"] == split].sort_values("position")
    return list(zip(table["prompt_id"], table["prompt"], strict=True))


def _shard(
    snapshot: Snapshot[Any], videos: Path, index: int, num_shards: int, adapter: Path | None, *, with_texts: bool
) -> Shard:
    return Shard(snapshot, videos, index, num_shards, f"{snapshot.digest} {_adapter_name(adapter)}", with_texts)


def _adapter_name(adapter: Path | None) -> str | None:
    return f"{adapter.parent.name}/{adapter.name} {sha256_of_folder(adapter)[:12]}" if adapter else None


def _sample_shard(shard: Shard, requests: Sequence[Request], sampling: Sampling, adapter: Path | None) -> None:
    snapshot, settings = shard.snapshot, shard.snapshot.settings.model
    model: VideoModel | None = None
    texts: dict[str, PromptEmbeds] = {}  # encodings of the batch before: its last prompt may go on in the next

    def make(batch: Sequence[Request]) -> Callable[[], Part]:
        nonlocal model, texts
        if model is None:  # loaded only when something is left to do
            model = load_model(settings, snapshot.execution.device)
            if adapter:
                model.load_adapter(adapter)
        prompts = {request.prompt_id: request.prompt for request in batch}
        texts = encode_prompts(model, wanted_prompts(batch, sampling) if shard.with_texts else prompts, texts)
        runs = []
        for sized, run in _by_size(batch, sampling, snapshot.seed):
            text = collate([texts[request.prompt_id] for request in run])
            latents_BCFHW = model.sample(text, [request.seed for request in run], sized)
            # Without a GPU, decoding in the background would only fight the next batch for the same cores.
            decoded = model.decode(latents_BCFHW) if model.device.type == "cpu" else None
            runs.append(_Run(run, latents_BCFHW, decoded))
        return partial(_finish_batch, model, batch, runs, texts, sampling, shard)

    common = {"model": f"{settings.family} {settings.weights}", "adapter": _adapter_name(adapter)}
    run_batches(shard, requests, sampling.batch_size, make, common)


class _Run(NamedTuple):
    """Clips of one size: their requests, latents [B, C, F, H, W], and what `decode` gave, where that was called."""

    requests: Sequence[Request]
    latents_BCFHW: torch.Tensor
    frames: Sequence[np.ndarray | None] | None


def _by_size(batch: Sequence[Request], sampling: Sampling, seed: int) -> list[tuple[Sampling, list[Request]]]:
    """The batch in runs of one size, in the order of their first clips."""
    sizes = sampling.sizes
    runs: dict[int, list[Request]] = {}
    for request in batch:
        runs.setdefault(derive_seed(seed, "bucket", request.prompt_id) % len(sizes), []).append(request)
    return [(sizes[drawn], run) for drawn, run in runs.items()]


def _finish_batch(
    model: VideoModel,
    batch: Sequence[Request],
    runs: Sequence[_Run],
    texts: Mapping[str, PromptEmbeds],
    sampling: Sampling,
    shard: Shard,
) -> Part:
    """What the next batch need not wait for; on a GPU the decoder's kernels queue behind what was launched before.

    Args:
        runs: the batch's requests, by size.
    """
    import torch

    made = [
        entry
        for requests, latents_BCFHW, decoded in runs
        for entry in zip(
            requests,
            latents_BCFHW.cpu(),
            model.decode(latents_BCFHW) if decoded is None else decoded,
            strict=True,
        )
    ]
    rows: dict[str, dict[str, Any]] = {}
    latents: dict[str, torch.Tensor] = {}
    for request, latent, frames in made:
        row = rows[request.video_id] = empty_row(request)
        if not torch.isfinite(latent).all():
            row |= {"status": "failed", "error": "the model gave NaN or infinite latents"}
        elif frames is None:
            row |= {"status": "failed", "error": "the VAE gave NaN or infinite pixels of finite latents"}
        else:
            path = shard.clips / f"{request.video_id}.mp4"
            write_mp4(path, frames, sampling.fps, crf=sampling.crf)
            num_frames, height, width, _ = frames.shape
            row |= {"path": shard.relative(path), "sha256": sha256_of(path)}
            row |= {"num_frames": num_frames, "height": height, "width": width, "fps": sampling.fps}
            latents[request.video_id] = latent.to(getattr(torch, sampling.latents_dtype)).contiguous()
    return Part(
        [rows[request.video_id] for request in batch],
        latents,
        {key: strip_padding(text) for key, text in texts.items()},
    )
