"""Checks for zero gradients and movement: a few optimizer steps on real pairs, extrapolated over the schedule.

This check must run last: it changes the policy's weights, and the policy is discarded afterwards.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from videodpo.dpo.findings import Finding, grade
from videodpo.dpo.loss_scale import BACKOFF, LEAST, loss_scale
from videodpo.dpo.optimizers import clip_gradients, make_optimizer, share_of_learning_rate, start_moments
from videodpo.dpo.passes import Passes
from videodpo.dpo.policy import apply_memory_options, offloaded_activations, trainable
from videodpo.models.base import VideoModel
from videodpo.runtime.countdown import Countdown
from videodpo.runtime.settings import TrainSettings
from videodpo.runtime.snapshot import Snapshot

# Optimizer steps of the probe, at the full learning rate, all on the same pairs.
STEPS = 3
# Limits on the share of gradients that are exactly 0; the demo's model has none.
ZEROS, MANY_ZEROS = 0.01, 0.5
# Smallest change of the errors, in standard deviations of the reference's winner-loser difference. docs/doctor.md lists
# what the demo's trainings reached on either side of these limits.
STILL = 0.01
# Largest mean absolute logit, and largest rise of the winners' errors relative to the reference's.
SATURATED_LOGIT, BROKEN = 40.0, 2.0


@dataclass(frozen=True)
class Probe:
    """Measurements on pairs that the probe did not learn from, with the weights moved as far as the schedule would.

    Attributes:
        zero_gradients: share of exact zeros among the gradients of the last step.
        distance: how far the weights were moved, in optimizer steps in one direction.
        moved: mean absolute change of the errors, in standard deviations of the reference's winner-loser difference.
        logit: mean absolute logit of the pairs.
        drift: rise of the winners' errors relative to the reference's.
    """

    zero_gradients: float
    distance: float
    moved: float
    logit: float
    drift: float


def check_movement(
    model: VideoModel,
    snapshot: Snapshot[TrainSettings],
    round_folder: Path,
    runs: Sequence[range],
    countdown: Countdown,
) -> list[Finding]:
    """Check for zero gradients, and whether the settings can move the model.

    Args:
        model: the policy; its weights are changed.
        snapshot: settings of the training.
        round_folder: folder of the round.
        runs: micro-batches of the plan; the probe learns from every other one.
        countdown: updated after each pass.
    """
    runtime = snapshot.execution.train_runtime
    if runtime.strategy == "fsdp" or runtime.context_parallel > 1:
        key = "strategy: fsdp" if runtime.strategy == "fsdp" else f"context_parallel: {runtime.context_parallel}"
        return _not_judged(f"the training splits its model over processes (train_runtime.{key})")
    try:
        probe = run_probe(model, snapshot, round_folder, runs, countdown)
    except torch.OutOfMemoryError:
        return _not_judged("the training does not fit on the doctor's one GPU")
    return [_zero_gradients(probe.zero_gradients), _movement(probe)]


def run_probe(
    model: VideoModel,
    snapshot: Snapshot[TrainSettings],
    round_folder: Path,
    runs: Sequence[range],
    countdown: Countdown,
) -> Probe:
    """Train on every other micro-batch, extrapolate the weights, and measure on the remaining ones.

    Args:
        model: the policy; its weights are changed.
        snapshot: settings of the training.
        round_folder: folder of the round.
        runs: micro-batches of the plan.
        countdown: updated after each pass.
    """
    settings, runtime = snapshot.settings, snapshot.execution.train_runtime
    passes = Passes(snapshot, round_folder, model)
    apply_memory_options(model, runtime.model_copy(update={"compile": False}))
    weights = list(trainable(model).values())
    optimizer = make_optimizer(weights, settings.train)
    start_moments(optimizer)
    learned, others = runs[::2], runs[1::2] or runs
    num_passes, numbers = STEPS * len(learned) + len(others), itertools.count(1)
    pairs, scale, zeros = sum(map(len, learned)), loss_scale([], settings.model.dtype) or LEAST, 0.0
    begin = [weight.detach().cpu().clone() for weight in weights]

    def count() -> None:
        countdown.add(0, note=f"pass {next(numbers)} of {num_passes} of the probe")

    def step(scale: float) -> tuple[float, float]:
        """Take an optimizer step as the training does; return the share of zero gradients and the loss scale used."""
        for run in learned:
            with offloaded_activations(model, runtime):
                result, _ = passes.learn(run)
                torch.autograd.backward(result.per_pair.sum() / pairs * scale)
            count()
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        zeros = sum(int((gradient == 0).sum()) for gradient in gradients) / sum(map(torch.numel, gradients))
        norm = clip_gradients(weights, settings.train.max_grad_norm, scale)
        is_usable = math.isfinite(norm) or scale <= LEAST
        if is_usable:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return (zeros, scale) if is_usable else step(scale * BACKOFF)

    for _ in range(STEPS):
        zeros, scale = step(scale)
    # N steps in the same direction move the weights by N, N unrelated steps by sqrt(N), with each step in units of the
    # full learning rate. The demo's trainings end at about sqrt(N).
    num_steps = settings.schedule.num_steps
    shares = [share_of_learning_rate(settings.train, step, num_steps) for step in range(num_steps)]
    distance = math.sqrt(sum(share**2 for share in shares))
    with torch.no_grad():
        for weight, before in zip(weights, begin, strict=True):
            before = before.to(weight.device)
            weight.copy_(before + (weight - before) * (distance / STEPS))
    found = []
    for run in others:
        found.append(torch.stack(passes.compare(run)).double().cpu().numpy())
        count()
    winner, loser, ref_w, ref_l = np.concatenate(found, axis=1)
    known = np.stack([ref_w, ref_l], axis=1) if passes.reference is None else passes.reference
    spread = np.std(known[:, 0].astype(float) - known[:, 1])
    return Probe(
        zero_gradients=zeros,
        distance=distance,
        moved=float(np.mean(np.abs([winner - ref_w, loser - ref_l])) / spread) if spread else math.inf,
        logit=float(np.mean(np.abs((winner - ref_w) - (loser - ref_l))) * passes.beta / 2),
        drift=float(np.mean(winner - ref_w) / np.mean(ref_w)),
    )


def _not_judged(reason: str) -> list[Finding]:
    return [Finding(name, "fine", f"not judged, {reason}", _EXPECTED[name]) for name in _EXPECTED]


_EXPECTED = {
    "zero_gradients": f"at most {ZEROS:.0%}",
    "movement": f"at least {STILL:g} spreads, logits up to {SATURATED_LOGIT:g}, winners' errors up to {BROKEN:+.0%}",
}


def _zero_gradients(share: float) -> Finding:
    measured = f"{share:.2%} of the gradients are exactly 0"
    advice = "Gradients are too small for model.dtype: use bfloat16; or no gradient reaches these weights."
    status = grade(share, ZEROS, MANY_ZEROS)
    return Finding("zero_gradients", status, measured, _EXPECTED["zero_gradients"], advice, share)


def _movement(probe: Probe) -> Finding:
    measured = (
        f"after {probe.distance:.3g} steps in one direction, the errors of other pairs have moved by {probe.moved:.2g} "
        f"spreads, their logits by {probe.logit:.2g}, the winners' errors by {probe.drift:+.1%}"
    )
    is_saturated = not (probe.logit <= SATURATED_LOGIT and probe.drift <= BROKEN)  # or not a number
    advice = ""
    if is_saturated:
        advice = "The training will saturate: lower train.learning_rate."
    elif probe.moved < STILL:
        advice = (
            "The training will not move the model: raise train.learning_rate (docs/training.md), or take more steps."
        )
    return Finding("movement", "warning" if advice else "fine", measured, _EXPECTED["movement"], advice, probe.moved)
