"""Sample one shard of videos: clips, latents, encoded prompts and table.

Legend: B batch, C latent channel, F latent frame, H latent height, W latent width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from videodpo.config import Sampling
from videodpo.models import load_model
from videodpo.models.base import Part as ModelPart
from videodpo.models.base import PromptEmbeds, VideoModel, collate
from videodpo.models.shared.prompt_embeds import NEGATIVE
from videodpo.runtime.benchmark_settings import BenchmarkCopySettings, BenchmarkGenerateSettings
from videodpo.runtime.rounds import round_folder
from videodpo.runtime.seeds import derive_seed
from videodpo.runtime.settings import EvaluateGenerateSettings, GenerateSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.generate.copy_clips import copy_shard
from videodpo.stages.generate.encode import encode_missing
from videodpo.stages.generate.import_clips import digest_of_sources, encode_clips, read_sources
from videodpo.stages.generate.shards import Batch, Files, Part, Request, Row, empty_row, open_shard
from videodpo.storage.files import sha256_of, sha256_of_folder
from videodpo.storage.tables import read_table
from videodpo.storage.video import write_mp4

if TYPE_CHECKING:
    import numpy as np
    import torch


def generate_shard(snapshot: Snapshot[GenerateSettings], round_number: int, index: int, adapter: Path | None) -> None:
    """Sample one shard of a round's training videos into `round<r>/videos`.

    Each prompt draws one of the sampling's sizes. All its clips have that size, so that they can be paired. With
    the user's own winners, sample 0 of each prompt is imported, and fitted to that size.

    Args:
        snapshot: settings of the stage.
        round_number: from 1.
        index: index of the shard, from 0.
        adapter: folder of the previous round's adapter, or None for the base model.

    Raises:
        RunError: more than `max_failed_fraction` of all clips failed; finished clips are kept for the next try.
    """
    settings = snapshot.settings
    winners = read_sources(snapshot.folder) if settings.with_winners else {}

    def seed_of(prompt_id: str, sample: int) -> int:
        own = f"{prompt_id}-{sample}" in winners
        return 0 if own else derive_seed(snapshot.seed, "video", round_number, prompt_id, sample)

    requests = _Requests(_prompts(snapshot.folder, "train"), settings.generate.videos_per_prompt, seed_of)
    videos = round_folder(snapshot.folder, round_number) / "videos"
    sampler = _Sampler(snapshot, settings.generate.sampling, adapter, with_texts=True, winners=winners)
    sampler.make(videos, index, settings.generate.shards, requests)


def generate_heldout_shard(
    snapshot: Snapshot[EvaluateGenerateSettings], round_number: int, index: int, arm: str, adapter: Path | None
) -> None:
    """Sample one shard of the held-out prompts into `round<r>/evaluation/videos/<arm>`; both arms use the same seeds.

    Args:
        snapshot: settings of the stage.
        round_number: from 1.
        index: index of the shard, from 0.
        arm: "base" or "aligned".
        adapter: folder of the round's adapter for "aligned", None for "base".

    Raises:
        RunError: as `generate_shard`.
    """
    settings = snapshot.settings
    seed_of = partial(derive_seed, snapshot.seed, "heldout video")
    requests = _Requests(_prompts(snapshot.folder, "heldout"), settings.videos_per_prompt, seed_of)
    videos = round_folder(snapshot.folder, round_number) / "evaluation" / "videos" / arm
    sampler = _Sampler(snapshot, settings.sampling, adapter, with_texts=False)
    sampler.make(videos, index, settings.shards, requests)


def generate_benchmark_shard(
    snapshot: Snapshot[BenchmarkGenerateSettings],
    round_number: int,
    group: str,
    index: int,
    arm: str,
    adapter: Path | None,
) -> None:
    """Sample one shard of a benchmark's group into `round<r>/benchmark/<group>/videos/<arm>`, with the same seeds for
    both arms.

    Args:
        snapshot: settings of the stage for this group.
        round_number: from 1.
        group: group of the benchmark's prompts.
        index: index of the shard, from 0.
        arm: "base" or "aligned".
        adapter: folder of the round's adapter for "aligned", None for "base".

    Raises:
        RunError: as `generate_shard`.
    """
    settings = snapshot.settings
    seed_of = partial(derive_seed, snapshot.seed, "benchmark video")
    requests = _Requests(_benchmark_prompts(snapshot.folder, group), settings.samples, seed_of)
    videos = round_folder(snapshot.folder, round_number) / "benchmark" / group / "videos" / arm
    sampler = _Sampler(snapshot, settings.sampling, adapter, with_texts=False, with_latents=False)
    sampler.make(videos, index, settings.num_shards, requests)


def copy_benchmark_shard(
    snapshot: Snapshot[BenchmarkCopySettings], round_number: int, group: str, index: int, arm: str
) -> None:
    """Copy the user's clips of one shard, in place of sampling them; arguments as for `generate_benchmark_shard`."""
    settings = snapshot.settings
    requests = _Requests(_benchmark_prompts(snapshot.folder, group), settings.samples, lambda prompt_id, sample: 0)
    videos = round_folder(snapshot.folder, round_number) / "benchmark" / group / "videos" / arm
    copy_shard(snapshot, settings.folders[arm], videos, index, settings.num_shards, requests)


class _Requests(Sequence[Request]):
    """Every sample of every prompt. Requests are created on access, because a shard needs few of millions."""

    def __init__(self, prompts: Sequence[tuple[str, str]], samples: int, seed_of: Callable[[str, int], int]) -> None:
        self._prompts, self._samples, self._seed_of = prompts, samples, seed_of

    def __len__(self) -> int:
        return len(self._prompts) * self._samples

    def __getitem__(self, position: Any) -> Any:
        number, sample = divmod(range(len(self))[position], self._samples)
        prompt_id, prompt = self._prompts[number]
        return Request(prompt_id, prompt, sample, self._seed_of(prompt_id, sample))


def _prompts(folder: Path, split: str) -> list[tuple[str, str]]:
    table = read_table(folder / "prompts.parquet")
    table = table[table["split"] == split].sort_values("position")
    return list(zip(table["prompt_id"], table["prompt"], strict=True))


def _benchmark_prompts(folder: Path, group: str) -> list[tuple[str, str]]:
    table = read_table(folder / "benchmark_prompts" / f"{group}.parquet")
    return list(zip(table["prompt_id"], table["prompt"], strict=True))


class _Run(NamedTuple):
    """Clips of one size: requests, latents [B, C, F, H, W], and frames if they are already decoded."""

    requests: Sequence[Request]
    latents_BCFHW: torch.Tensor
    frames: Sequence[np.ndarray | None] | None


class _Sampler:
    """Samples batches. The model is loaded for the first batch, so that a finished shard loads nothing.

    All prompts are encoded first, and the text encoder is freed. Keeping it would raise the memory of denoising by up
    to half.
    """

    def __init__(
        self,
        snapshot: Snapshot[Any],
        sampling: Sampling,
        adapter: Path | None,
        *,
        with_texts: bool,
        with_latents: bool = True,
        winners: Mapping[str, Path] | None = None,
    ) -> None:
        self._snapshot, self._sampling, self._adapter, self._with_texts = snapshot, sampling, adapter, with_texts
        self._with_latents = with_latents
        self._winners = winners or {}
        self._model: VideoModel | None = None

    def make(self, videos: Path, index: int, num_shards: int, requests: Sequence[Request]) -> None:
        """Sample the clips that a shard lacks."""
        snapshot, model, name = self._snapshot, self._snapshot.settings.model, _adapter_name(self._adapter)
        own = f" {digest_of_sources(self._winners)}" if self._winners else ""
        with open_shard(
            snapshot,
            videos,
            index,
            num_shards,
            requests,
            self._sampling.batch_size,
            identity=f"{snapshot.digest} {name}{own}",
            common={"model": f"{model.family} {model.weights}", "adapter": name},
            with_texts=self._with_texts,
            with_latents=self._with_latents,
        ) as shard:
            encode_missing(shard, self._sampling, model, snapshot.execution.device)
            for batch in shard.unfinished():
                imported = self.import_winners(batch, shard.files)
                runs = self.sample(batch, shard.texts(batch))
                shard.save_in_background(batch, self.finish, batch, runs, imported, shard.files)

    def import_winners(self, batch: Batch, files: Files) -> list[Part]:
        """Copy and encode the clips of a batch that are the user's own, by size."""
        own = [request for request in batch.requests if request.video_id in self._winners]
        settings = self._snapshot.settings
        return [
            encode_clips(requests, self._loaded(), self._winners, settings.generate, [sized], files)
            for sized, requests in _by_size(own, self._sampling, self._snapshot.seed)
        ]

    def sample(self, batch: Batch, texts: Mapping[str, PromptEmbeds]) -> list[_Run]:
        """Denoise a batch. Only this part blocks the next batch; `finish` runs in the background.

        Args:
            batch: the batch; the user's own clips are left out.
            texts: encoded prompts of the batch, by id.
        """
        model, sampling = self._loaded(), self._sampling
        runs = []
        wanted = [request for request in batch.requests if request.video_id not in self._winners]
        for sized, requests in _by_size(wanted, sampling, self._snapshot.seed):
            prompts = collate([texts[request.prompt_id] for request in requests])
            text = {name: value.to(model.device) for name, value in prompts.items()}
            latents_BCFHW = model.sample(text, [request.seed for request in requests], sized, texts[NEGATIVE])
            # Without a GPU, decoding in the background would compete with the next batch for the same cores.
            frames = model.decode(latents_BCFHW) if model.device.type == "cpu" else None
            runs.append(_Run(requests, latents_BCFHW, frames))
        return runs

    def finish(self, batch: Batch, runs: Sequence[_Run], imported: Sequence[Part], files: Files) -> Part:
        """Decode a batch and write its clips. On a GPU, the VAE's kernels queue behind those already launched."""
        import torch

        model, sampling = self._loaded(), self._sampling
        rows: dict[str, Row] = {row["video_id"]: row for part in imported for row in part.rows}
        latents: dict[str, torch.Tensor] = {key: latent for part in imported for key, latent in part.latents.items()}
        for requests, latents_BCFHW, frames in runs:
            decoded = model.decode(latents_BCFHW) if frames is None else frames
            for request, latent, clip in zip(requests, latents_BCFHW.cpu(), decoded, strict=True):
                row = rows[request.video_id] = empty_row(request)
                if not torch.isfinite(latent).all():
                    row |= {"status": "failed", "error": "the model sampled NaN or infinite latents"}
                elif clip is None:
                    row |= {"status": "failed", "error": "the VAE decoded finite latents to NaN or infinite pixels"}
                else:
                    path = files.clips / f"{request.video_id}.mp4"
                    write_mp4(path, clip, sampling.fps, crf=sampling.crf)
                    num_frames, height, width, _ = clip.shape
                    row |= {"path": files.relative(path), "sha256": sha256_of(path)}
                    row |= {"num_frames": num_frames, "height": height, "width": width, "fps": sampling.fps}
                    latents[request.video_id] = latent.to(getattr(torch, sampling.latents_dtype)).contiguous()
        return Part([rows[request.video_id] for request in batch.requests], latents)

    def _loaded(self) -> VideoModel:
        if self._model is None:
            parts: Set[ModelPart] = {"denoiser", "vae"}
            self._model = load_model(self._snapshot.settings.model, self._snapshot.execution.device, parts=parts)
            if self._adapter:
                self._model.load_adapter(self._adapter)
        return self._model


def _adapter_name(adapter: Path | None) -> str | None:
    return f"{adapter.parent.name}/{adapter.name} {sha256_of_folder(adapter)[:12]}" if adapter else None


def _by_size(requests: Sequence[Request], sampling: Sampling, seed: int) -> list[tuple[Sampling, list[Request]]]:
    """Group requests by clip size, in the order of their first clips."""
    sizes = sampling.sizes
    runs: dict[int, list[Request]] = {}
    for request in requests:
        runs.setdefault(derive_seed(seed, "bucket", request.prompt_id) % len(sizes), []).append(request)
    return [(sizes[drawn], requests) for drawn, requests in runs.items()]
