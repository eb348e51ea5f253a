"""Forward passes of policy and reference over micro-batches, for training and validation."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import torch

from videodpo.config import OfficialCode
from videodpo.dpo.batches import Batch, PairData, model_errors, prediction_and_target
from videodpo.dpo.objectives import (
    DPOLoss,
    auto_beta,
    denoising_errors,
    diffusion_dpo_loss_from_errors,
    preference_loss,
    residual_overlap,
)
from videodpo.dpo.policy import all_dropout, without_dropout
from videodpo.dpo.reference_errors import read_reference
from videodpo.dpo.visits import Plan, Visit, read_visits, separate_draw
from videodpo.models.base import VideoModel
from videodpo.models.shared.prompt_embeds import CachedTexts, OnlineTexts
from videodpo.runtime.seeds import derive_seed
from videodpo.runtime.settings import TrainSettings
from videodpo.runtime.snapshot import Snapshot


class Passes:
    """Pairs of a round, their plan and their reference errors, for one policy.

    Attributes:
        plan: all visits, training first.
        beta: strength of the preference, from the configuration or `auto_beta`.
        reference: precomputed reference errors, float32 [visits, 2]; None if the reference is online.
    """

    def __init__(
        self, snapshot: Snapshot[TrainSettings], round_folder: Path, model: VideoModel, neighbour: int = 0
    ) -> None:
        """Read the round's tables.

        Args:
            neighbour: index of this rank within its context-parallel group.
        """
        self._neighbour = [neighbour] * (neighbour > 0)
        self._train, self._schedule, self._seed = snapshot.settings.train, snapshot.settings.schedule, snapshot.seed
        self._model = model
        cached = self._train.texts == "cached"
        texts = CachedTexts(round_folder) if cached else OnlineTexts(snapshot.folder, model)
        self.data = PairData(round_folder, texts, model.device)
        self.plan: Plan = read_visits(round_folder)
        self.plan.require(self._schedule)
        self.reference: np.ndarray | None = None
        if self._train.reference == "precomputed":
            self.reference = read_reference(round_folder, self.plan)
        self.beta = self._beta()

    def _beta(self) -> float:
        if not isinstance(self._train.beta, str):
            return self._train.beta
        assert self.reference is not None
        return auto_beta(self.reference[:, 0], self.reference[:, 1], self._train.beta_logit)

    def learn(self, indices: range) -> tuple[DPOLoss, torch.Tensor]:
        """Return the loss of a micro-batch, with gradients, and its statistics [B, len(STATISTICS)]."""
        objective = self._train.objective
        quirks = objective.official_code
        batch = self._batch(indices)
        # Dropout is seeded per micro-batch, on every device and rank. A resumed training then needs no generator state,
        # and the draws do not depend on the number of ranks. Ranks of a context-parallel group have different seeds:
        # they hold different tokens, and equal seeds would drop the same positions of each share.
        _seed_dropout(derive_seed(self._seed, "reference dropout", indices.start, *self._neighbour))
        ref_w, ref_l = self._reference_errors(indices, batch, quirks)
        _seed_dropout(derive_seed(self._seed, "dropout", indices.start, *self._neighbour))
        prediction, target = prediction_and_target(self._model, batch)
        policy_w, policy_l = denoising_errors(prediction, target, per_column=quirks.logit_per_column).chunk(2)
        overlap = None if objective.sdpo_mu is None else residual_overlap(prediction, target)
        result = preference_loss(
            objective, policy_w, policy_l, ref_w, ref_l, beta=self.beta, weight=batch.weight, overlap=overlap
        )
        acts = torch.full_like(batch.weight, torch.nan) if result.safeguard is None else result.safeguard < 1
        columns = (result.per_pair, result.margin, policy_w, policy_l, ref_w, ref_l, acts, batch.weight)
        return result, torch.stack(
            [column.detach().float().view(len(indices), -1).mean(1) for column in columns], dim=1
        )

    def measure(self, indices: range) -> torch.Tensor:
        """Return margin and unweighted DPO loss of a micro-batch, float32 [B, 2], on the CPU.

        Options that apply to training only, such as dropout, are off.
        """
        found = diffusion_dpo_loss_from_errors(*self.compare(indices), beta=self.beta)
        return torch.stack([found.margin, found.per_pair], dim=1).cpu()

    def compare(self, indices: range) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return errors without dropout, each [B]: policy on winners, on losers, reference on winners, on losers."""
        batch = self.data.batch(self.plan.visits[indices.start : indices.stop])
        with without_dropout(self._model):
            ref_w, ref_l = self._reference_errors(indices, batch)
            policy_w, policy_l = model_errors(self._model, batch)
        return policy_w, policy_l, ref_w, ref_l

    def _batch(self, indices: range) -> Batch:
        visits = self.plan.visits[indices.start : indices.stop]
        apart = self._train.objective.official_code.separate_noise
        draw = partial(separate_draw, timesteps=self._schedule.timesteps, seed=self._seed) if apart else None
        return self.data.batch(visits, empty_captions=self._dropped_captions(visits), separate_draw=draw)

    def _dropped_captions(self, visits: Sequence[Visit]) -> list[bool]:
        share = self._train.caption_dropout
        seeds = [derive_seed(self._seed, "caption dropout", visit.pair_id, visit.visit) for visit in visits]
        return [bool(share) and np.random.Generator(np.random.PCG64(seed)).uniform() < share for seed in seeds]

    def _reference_errors(
        self, indices: range, batch: Batch, quirks: OfficialCode | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.reference is not None:
            known = torch.from_numpy(self.reference[indices.start : indices.stop]).to(batch.weight.device)
            return known[:, 0], known[:, 1]
        quirks = quirks or OfficialCode()
        mode = all_dropout(self._model) if quirks.network_dropout else nullcontext()
        with torch.no_grad(), self._model.reference_weights(), mode:  # `mode` must apply to the swapped-in network
            prediction, target = prediction_and_target(self._model, batch)
        winner, loser = denoising_errors(prediction, target, per_column=quirks.logit_per_column).chunk(2)
        return winner, loser


def _seed_dropout(seed: int) -> None:
    # Without a GPU, torch.manual_seed records a stack trace for every kind of GPU, which takes 0.2 to 1 ms.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)
