"""Checks of the first losses of a training, on a few of its real batches.

Legend: B pairs, L text token.
"""

from __future__ import annotations

import math
from collections.abc import Sequence, Set
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from videodpo.config import Sampling
from videodpo.dpo.batches import Batch, PairData, model_errors
from videodpo.dpo.findings import Finding, Status, grade
from videodpo.dpo.objectives import diffusion_dpo_loss_from_errors
from videodpo.dpo.policy import build_policy, without_dropout
from videodpo.dpo.reference_errors import has_draws
from videodpo.dpo.visits import Plan, Visit
from videodpo.models.base import ALL_PARTS, Part, PromptEmbeds
from videodpo.models.shared.prompt_embeds import CachedTexts, OnlineTexts
from videodpo.runtime.settings import TrainSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.doctor.latents import Clip
from videodpo.storage.clips import read_clip
from videodpo.storage.schemas import CLIP_SIZE, ClipSize
from videodpo.storage.tables import read_shards
from videodpo.storage.video import decode_mp4

NUM_PAIRS = 8
_ERRORS = ["ref_error_winner", "ref_error_loser"]
# Difference due to float32 rounding on one machine: of the loss from ln 2, and between batched and single losses.
EXACT = 1e-5
# Relative difference of errors due to rounding on another machine or in another batch: in float32, and below float32.
ROUNDED, ROUNDED_BELOW_FLOAT32 = 1e-4, 2e-2
# Difference of a pair's loss from ln 2, divided by its weight. At beta 5000, bfloat16 errors from another kind of GPU
# move a logit by 0.06.
LOSS_ROUNDED = 0.05


class Start:
    """The configured model as the training starts with it, and a few batches of the plan that cover every clip size.

    Attributes:
        model: the policy before its first step.
        runs: micro-batches of the plan that are checked.
    """

    def __init__(
        self,
        snapshot: Snapshot[TrainSettings],
        round_folder: Path,
        plan: Plan,
        reference: pd.DataFrame | None,
        beta: float,
    ) -> None:
        settings = snapshot.settings
        self._folder, self._settings, self._reference, self._beta = snapshot.folder, settings.train, reference, beta
        self._rounded = ROUNDED if settings.model.dtype == "float32" else ROUNDED_BELOW_FLOAT32
        cached = self._settings.texts == "cached"
        parts: Set[Part] = {"denoiser", "vae"} if cached else ALL_PARTS
        self.model = build_policy(snapshot, None, snapshot.execution.device, parts=parts)
        texts = CachedTexts(round_folder) if cached else OnlineTexts(snapshot.folder, self.model)
        self._data = PairData(round_folder, texts, self.model.device)
        self._videos = read_shards(round_folder / "videos").set_index("video_id", drop=False)
        winners = self._videos.loc[self._data.pairs["winner_id"], list(CLIP_SIZE)]
        sizes = winners.itertuples(index=False, name=None)
        self._sizes: dict[int, ClipSize] = dict(zip(self._data.pairs["pair_id"], sizes, strict=True))
        self._visits, self._num_training = plan.visits, len(plan.training)
        self._is_finite = np.ones(len(plan.visits), bool)
        if reference is not None and len(reference) == len(plan.visits):
            self._is_finite = reference[_ERRORS].notna().all(axis=1).to_numpy()
        # Keep the plan's micro-batches: the last bits of an error depend on the other pairs in the forward pass.
        self._pairs_per_step, micro = settings.schedule.global_batch_size, settings.schedule.micro_batch_size
        runs = [run for run in plan.micro_batches if len(run) == micro]
        # Exclude micro-batches with non-finite errors: the training skips them, and they say nothing about the rest.
        runs = [run for run in runs if self._is_finite[run.start : run.stop].all()] or runs
        wanted = min(len(runs), max(2, math.ceil(NUM_PAIRS / micro)))
        picked = {int(index) for index in np.linspace(0, len(runs) - 1, wanted)}
        firsts: dict[ClipSize, int] = {}
        for index, run in enumerate(runs):
            firsts.setdefault(self._size(self._visits[run.start]), index)
        self.runs = [runs[index] for index in sorted(picked | set(firsts.values()))]

    def _size(self, visit: Visit) -> ClipSize:
        return self._sizes[visit.pair_id]

    @cached_property
    def _batches(self) -> list[Batch]:
        return [self._data.batch(self._visits[run.start : run.stop]) for run in self.runs]

    @property
    def text(self) -> PromptEmbeds:
        """Prompt embedding of one pair, [1, L, ...]."""
        return {name: tensor[:1] for name, tensor in self._batches[0].text.items()}

    @property
    def sampling(self) -> Sampling:
        """Sampling settings with the size of the stored clips."""
        row = self._videos.loc[self._data.pairs["winner_id"].iloc[0]]
        return Sampling(num_frames=int(row["num_frames"]), height=int(row["height"]), width=int(row["width"]))

    def clips(self) -> list[Clip]:
        """Winner and loser of the first batch's first pair.

        Raises:
            Damaged: a clip's file differs from what was written.
        """
        pair: Any = self._data.pairs.loc[self._visits[self.runs[0].start].pair_id]
        winners = len(self._batches[0].latents) // 2
        found = []
        for video_id, index in ((pair["winner_id"], 0), (pair["loser_id"], winners)):
            row: Any = self._videos.loc[video_id]
            frames, _ = decode_mp4(read_clip(self._folder / row["path"], row["sha256"]), video_id)
            latents = self._batches[0].latents[index : index + 1]
            found.append(Clip(video_id, latents, frames, row["model"] == "import"))
        return found

    def check(self) -> list[Finding]:
        """Check the batches, their errors and their loss before the first optimizer step."""
        findings = [self._shared_draws()]
        if self._reference is not None:
            findings.append(self._table())
            if findings[-1].status == "alarm":
                return findings
        with without_dropout(self.model):
            one_logit = self._one_logit()
            findings.append(one_logit)
            if one_logit.status != "alarm":
                policy = [model_errors(self.model, batch) for batch in self._batches]
                reference = [self._reference_errors(index) for index in range(len(self.runs))]
                findings += [self._loss(policy, reference), self._equal(policy, reference)]
        return findings

    def _shared_draws(self) -> Finding:
        differing = set()
        for batch in self._batches:
            tensors = {"noise": batch.noise, "noise level": batch.noise_level, **batch.text}
            for name, tensor in tensors.items():
                winner, loser = tensor.chunk(2)
                if not torch.equal(winner, loser):
                    differing.add(name)
            winner, loser = batch.latents.chunk(2)
            if any(torch.equal(one, other) for one, other in zip(winner, loser, strict=True)):
                differing.add("nothing: both have the same latents")
        expected = "the same noise, noise level and text within each pair"
        if not differing:
            return Finding("shared_draws", "fine", f"winner and loser agree in {len(self._batches)} batches", expected)
        is_wanted = self._settings.objective.official_code.separate_noise
        status: Status = "warning" if is_wanted and differing <= {"noise", "noise level"} else "alarm"
        advice = (
            "objective.official_code.separate_noise requests this."
            if status == "warning"
            else "The loss would compare the draws instead of the clips: see videodpo.dpo.batches."
        )
        return Finding(
            "shared_draws", status, f"winner and loser differ in {', '.join(sorted(differing))}", expected, advice
        )

    def _table(self) -> Finding:
        assert self._reference is not None
        rows = self._reference
        errors = rows[_ERRORS].to_numpy(float)
        expected = "one finite error per draw of the plan, in its order"
        advice = "Re-run the stage reference."
        if not has_draws(rows, self._visits):
            measured = f"{len(rows)} rows, which are not the {len(self._visits)} draws of this plan"
            return Finding("reference_table", "alarm", measured, expected, advice)
        if bad := int(((errors < 0) | np.isinf(errors)).any(axis=1).sum()):
            measured = f"{bad} of {len(rows)} rows have an error that is negative or infinite"
            return Finding("reference_table", "alarm", measured, expected, advice, float(bad))
        missing = int((~self._is_finite).sum())
        lost = ~self._is_finite[: self._num_training]
        skipped = np.logical_or.reduce(lost.reshape(-1, self._pairs_per_step), axis=1).tolist()
        in_a_row = max((len(list(steps)) for is_skipped, steps in groupby(skipped) if is_skipped), default=0)
        gives_up = in_a_row > self._settings.max_skipped_steps or all(skipped)
        status: Status = "alarm" if gives_up else "warning" if missing else "fine"
        measured = f"{len(rows)} rows as planned, {missing} not finite: {np.mean(skipped):.1%} of the steps are skipped"
        advice = "Remove the pairs without finite errors from pairs.parquet; the log of the stage reference names them."
        return Finding("reference_table", status, measured, expected, advice, float(missing))

    def _reference_errors(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self._reference is None:
            with self.model.reference_weights():
                return model_errors(self.model, self._batches[index])
        run = self.runs[index]
        rows = self._reference.iloc[run.start : run.stop]
        both = [torch.tensor(rows[f"ref_error_{side}"].to_numpy(np.float32)) for side in ("winner", "loser")]
        winner, loser = (errors.to(self._batches[index].weight.device) for errors in both)
        return winner, loser

    def _loss(
        self, policy: Sequence[tuple[torch.Tensor, ...]], reference: Sequence[tuple[torch.Tensor, ...]]
    ) -> Finding:
        off, count = 0.0, 0
        for batch, (policy_w, policy_l), (ref_w, ref_l) in zip(self._batches, policy, reference, strict=True):
            loss = diffusion_dpo_loss_from_errors(
                policy_w, policy_l, ref_w, ref_l, beta=self._beta, weight=batch.weight
            )
            gap = (loss.per_pair / batch.weight - math.log(2)).abs().max()
            off, count = max(off, float(gap)) if not gap.isnan() else math.nan, count + len(policy_w)
        measured = f"{count} losses, divided by their weights, differ from ln 2 by at most {off:.2g}"
        advice = "Policy and reference are not the same model at step 0; see same_model."
        return Finding("step_0_loss", grade(off, EXACT, LOSS_ROUNDED), measured, f"at most {EXACT:g}", advice, off)

    def _equal(
        self, policy: Sequence[tuple[torch.Tensor, ...]], reference: Sequence[tuple[torch.Tensor, ...]]
    ) -> Finding:
        ours = torch.cat([errors for both in policy for errors in both])
        theirs = torch.cat([errors for both in reference for errors in both])
        off = float(((ours - theirs).abs() / theirs).max())
        exact = 0.0 if self.model.device.type == "cpu" else self._rounded
        measured = f"relative difference of {len(ours)} errors of policy and reference: at most {off:.2g}"
        advice = (
            "The table was computed on another machine, or with another number of threads."
            if off <= self._rounded
            else "The table is from another model, or the fresh adapter is not zero: re-run the stage reference."
        )
        expected = "bitwise equal" if not exact else f"at most {exact:g} on a GPU"
        return Finding("same_model", grade(off, exact, self._rounded), measured, expected, advice, off)

    def _one_logit(self) -> Finding:
        """Compare a batch of two pairs with each alone: one error per video, and a loss that is a mean over pairs."""
        starts = [self._visits[run.start] for run in self.runs]
        # Both must have the same clip size. If these micro-batches hold no second pair of that size, the plan may.
        finite = [visit for visit, is_finite in zip(self._visits, self._is_finite, strict=True) if is_finite]
        visits = [visit for visit in starts + finite if self._size(visit) == self._size(starts[0])]
        visits = list(dict.fromkeys(visits))[:2]
        together = model_errors(self.model, self._data.batch(visits))
        alone = [model_errors(self.model, self._data.batch([visit])) for visit in visits]
        expected = "one error per video, and the batch's loss is the mean of its pairs' losses"
        advice = "An error must be a mean over channel, frame, height and width: see videodpo.dpo.objectives."
        shapes = [tuple(errors.shape) for errors in (*together, *alone[0])]
        if shapes != [(len(visits),)] * 2 + [(1,)] * 2:
            return Finding(
                "one_logit", "alarm", f"{len(visits)} pairs have errors of shape {shapes[0]}", expected, advice
            )
        off = 0.0
        for side in (0, 1):
            singles = torch.cat([errors[side] for errors in alone])
            off = max(off, float(((together[side] - singles).abs() / singles).max()))
        # Shift the reference so that the logits are 2 and -1: if every loss were ln 2, all means would agree.
        shift = torch.tensor([2.0, -1.0], device=together[0].device)[: len(visits)] / self._beta
        errors = (*together, together[0] + shift, together[1] - shift)
        weight = torch.arange(1.0, len(visits) + 1, device=shift.device)
        batched = diffusion_dpo_loss_from_errors(*errors, beta=self._beta, weight=weight)
        parts = [
            diffusion_dpo_loss_from_errors(
                *(value[k : k + 1] for value in errors), beta=self._beta, weight=weight[k : k + 1]
            ).loss
            for k in range(len(visits))
        ]
        apart = float((batched.loss - torch.stack(parts).mean()).abs())
        status: Status = "fine" if off <= self._rounded and apart <= EXACT * float(batched.loss) else "alarm"
        measured = f"alone and in a batch, errors have a relative difference of {off:.2g}, losses differ by {apart:.2g}"
        return Finding("one_logit", status, measured, expected, advice, apart)
