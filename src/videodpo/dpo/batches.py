"""Tensors of one forward pass, from pairs, latents and prompt embeddings.

Legend: B pairs, C latent channel, F latent frame, H latent height, W latent width; L text token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from videodpo.config.errors import InputError
from videodpo.dpo.objectives import denoising_errors
from videodpo.dpo.visits import Visit
from videodpo.models.base import PromptEmbeds, VideoModel, collate
from videodpo.models.shared.prompt_embeds import EMPTY, CachedTexts, OnlineTexts
from videodpo.storage.tables import read_shards, read_table
from videodpo.storage.tensors import TensorFile


@dataclass(frozen=True)
class Batch:
    """Tensors of one micro-batch: the B winners first, then the B losers.

    Attributes:
        latents, noise: float32 [2B, C, F, H, W].
        text: prompt embeddings, tensors [2B, L, ...].
        noise_level: float32 [2B].
        weight: pair weights, float32 [B].
    """

    latents: torch.Tensor
    noise: torch.Tensor
    text: PromptEmbeds
    noise_level: torch.Tensor
    weight: torch.Tensor


class PairData:
    """Data of a round's pairs for the denoiser; latents and embeddings are read on demand."""

    def __init__(self, round_folder: Path, texts: CachedTexts | OnlineTexts, device: torch.device) -> None:
        """Read the tables of pairs and videos.

        Raises:
            InputError: a pair refers to a video without latents.
        """
        self._folder, self._texts, self._device = round_folder.parent, texts, device
        self.pairs = read_table(round_folder / "pairs.parquet").set_index("pair_id", drop=False)
        # Tuples: reading a row of a mixed-type DataFrame costs as much as the rest of a small batch.
        rows: Any = self.pairs.itertuples(index=False)
        self._rows: dict[int, Any] = {row.pair_id: row for row in rows}
        videos = read_shards(round_folder / "videos")
        self._latents = dict(zip(videos["video_id"], videos["latents"], strict=True))
        for video_id in (*self.pairs["winner_id"], *self.pairs["loser_id"]):
            if not isinstance(self._latents.get(video_id), str):
                raise InputError(f"pairs.parquet: video {video_id} has no latents in {round_folder / 'videos'}")
        self._files: dict[str, TensorFile] = {}

    def batch(
        self,
        visits: Sequence[Visit],
        *,
        empty_captions: Sequence[bool] | None = None,
        separate_draw: Callable[[Visit], tuple[float, int]] | None = None,
    ) -> Batch:
        """Load one micro-batch. Winner and loser share noise, noise level and prompt embeddings.

        Args:
            visits: visits of the micro-batch; their latents must have the same shape.
            empty_captions: for each visit, True replaces its caption by the empty one.
            separate_draw: returns a (noise level, noise seed) for the loser alone; None: the loser shares both.

        Raises:
            InputError: the latents differ in shape.
        """
        rows = [self._rows[visit.pair_id] for visit in visits]
        empty = empty_captions or [False] * len(rows)
        winners = [self._load(row.winner_id) for row in rows]
        losers = [self._load(row.loser_id) for row in rows]
        if len(shapes := {tuple(latent.shape) for latent in winners + losers}) > 1:
            ids = [visit.pair_id for visit in visits]
            raise InputError(
                f"pairs {ids}: latents of several sizes, {sorted(shapes)}; one forward pass needs one size"
            )
        draws = [(visit.noise_level, visit.noise_seed) for visit in visits]
        noise = [_noise(visit.noise_seed, latent) for visit, latent in zip(visits, winners, strict=True)]
        apart = [separate_draw(visit) for visit in visits] if separate_draw else None
        draws += apart or draws
        noise += [_noise(seed, latent) for (_, seed), latent in zip(apart, losers, strict=True)] if apart else noise
        text = [self._texts.of(EMPTY if drop else row.prompt_id) for row, drop in zip(rows, empty, strict=True)]
        device = self._device
        return Batch(
            latents=torch.stack(winners + losers).to(device),
            noise=torch.stack(noise).to(device),
            text={name: tensor.to(device) for name, tensor in collate(text + text).items()},
            noise_level=torch.tensor([noise_level for noise_level, _ in draws], dtype=torch.float32, device=device),
            weight=torch.tensor([row.weight for row in rows], dtype=torch.float32, device=device),
        )

    def _load(self, video_id: str) -> torch.Tensor:
        name, _, row = self._latents[video_id].partition("#")
        if name not in self._files:
            self._files[name] = TensorFile(self._folder / name)
        return self._files[name].get(row).float()


def _noise(seed: int, like: torch.Tensor) -> torch.Tensor:
    return torch.randn(like.shape, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float32)


def prediction_and_target(model: VideoModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the denoiser's prediction for a batch and its target, each [2B, C, F, H, W]."""
    noisy = model.noise_schedule.add_noise(batch.latents, batch.noise, batch.noise_level)
    target = model.noise_schedule.target(batch.latents, batch.noise, batch.noise_level)
    with model.precision():
        return model.predict(noisy, batch.noise_level, batch.text), target


def model_errors(model: VideoModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the denoising errors of winners and losers, each float32 [B]."""
    winner, loser = denoising_errors(*prediction_and_target(model, batch)).chunk(2)
    return winner, loser
