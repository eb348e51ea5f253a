"""Checks of a training log: does the fine-tune learn what it should? Must not import torch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from videodpo.config import Objective
from videodpo.dpo.findings import Finding, Status, grade, worse
from videodpo.dpo.loss_scale import is_overflow
from videodpo.dpo.strength import strength, tenth
from videodpo.storage.schemas import DRIFT_BUCKETS

# Minimum number of steps to judge a trend.
FEWEST_STEPS = 20
# In float32 on one machine, the loss starts at ln 2 to the last digits. Reference errors that another kind of GPU
# computed in bfloat16 move a logit at beta 5000 by 0.06, and the loss by half of that.
START_EXACT, START_ROUNDED = 1e-5, 0.05
# Increase of the winner's error over the reference's, as a share of the latter. The demo's healthy run ends at 2.6 %. A
# LoRA on the same pairs at learning rate 1e-3, with a margin of 22, ends at 21 %.
WINNER_WORSE, WINNER_MUCH_WORSE = 0.01, 0.10
# Errors that changed by less than this share count as unchanged.
STILL = 1e-3
# Largest share of all drift in one quarter of the noise levels. An even spread has 0.25, the demo 0.5.
BUCKET_SHARE = 0.7
# sigmoid(4.6) = 0.99: beyond it a pair has at most 0.01 of the maximum gradient; at margin 0 it has 0.5.
SATURATED_MARGIN, SATURATED_ACCURACY = math.log(99), 0.9
# Nothing was learned if both are this close to their start. The accuracy of a single step varies more.
NO_ACCURACY, NO_MARGIN = 0.05, 0.05
# Factors over the rolling median. The two runs above reach 5 and 7 (gradient), 4 and 13 (loss). HUGE_SPIKE equals the
# default of train.skip_above_median, above which a step is skipped.
WINDOW, SPIKE, HUGE_SPIKE, LOSS_SPIKE = 21, 10.0, 100.0, 20.0
# Lower bound of the rolling median, as a share of the mean over the log: a smaller median is no baseline.
LEAST_USUAL = 0.1
# Share of steps skipped because of an unusable gradient.
SKIPPED, MANY_SKIPPED = 0.01, 0.10
# Overfitting: validation accuracy fell by more than this, while training accuracy rose by more than this.
OVERFIT = 0.05


def check_log(log: pd.DataFrame, *, starts_at_ln_2: bool = True, max_grad_norm: float = 0.0) -> list[Finding]:
    """Run all checks on a log with the schema TRAIN_LOG. Columns that older logs lack are ignored.

    Args:
        log: rows in the order of the steps.
        starts_at_ln_2: policy and reference are the same model at step 0, and the loss is DPO's. False in later rounds
            and for other objectives.
        max_grad_norm: the training's. A step with a smaller gradient is never skipped, so it never raises an alarm.
    """
    if log.empty:
        return [Finding("log", "warning", "no steps", "at least one", "Check again once the training has begun.")]
    findings = [_finite(log)]
    if findings[0].status == "alarm":
        return findings
    all_steps, log = log, log[~log["skipped"].astype(bool)] if "skipped" in log else log
    if starts_at_ln_2 and all_steps["step"].iloc[0] == 0 and len(log):
        findings.append(_start(log.iloc[0]))  # skipped steps before it did not change the weights
    if len(log):
        findings.append(_spikes(log, max_grad_norm))
    if "skipped" in all_steps:
        findings.append(_skipped(all_steps))
    if len(log) < FEWEST_STEPS:
        expected = f"{FEWEST_STEPS} for a trend"
        return [*findings, Finding("trend", "fine", f"{len(log)} steps", expected, value=float(len(log)))]
    trends: list[Callable[[pd.DataFrame], Finding]] = [_winner, _apart, _buckets, _saturation, _learned]
    findings += [check(log) for check in trends]
    if "safeguard_share" in log and log["safeguard_share"].notna().any():
        findings.append(_safeguard(log))
    if "validation_accuracy" in log and log["validation_accuracy"].notna().sum() >= 2:
        findings.append(_validation(log))
    return findings


def is_plain(objective: Objective) -> bool:
    """Return True if the loss is ln 2 when policy and reference are the same model."""
    is_dpo = objective.loss == "dpo" and not objective.sft_weight
    return is_dpo and not any(objective.official_code.model_dump().values())


def _finite(log: pd.DataFrame) -> Finding:
    columns = ["loss", "margin", "error_winner", "error_loser", "ref_error_winner", "ref_error_loser", "grad_norm"]
    bad = ~np.isfinite(log[columns].to_numpy(float)).all(axis=1)
    if "skipped" in log:  # they were skipped because of their non-finite numbers
        bad &= ~log["skipped"].to_numpy(bool)
    if not bad.any():
        return Finding("finite", "fine", "every number is finite", "no NaN, no infinity", value=0.0)
    first = int(log["step"].to_numpy()[bad][0])
    advice = "Lower train.learning_rate or train.beta; look at the pairs of that step."
    measured = f"{int(bad.sum())} steps are not finite, the first is step {first}"
    return Finding("finite", "alarm", measured, "no NaN, no infinity", advice, float(bad.sum()))


def _start(row: pd.Series) -> Finding:
    off = abs(float(row["loss"]) / float(row["weight_mean"]) - math.log(2)) + abs(float(row["margin"])) / 2
    measured = f"step {row['step']:g}: loss / weight differs from ln 2 by {off:.2g}, margin {row['margin']:+.2g}"
    advice = "Policy and reference are not the same model at the start: run `videodpo doctor --config ...`."
    expected = f"ln 2 to {START_EXACT:g}, margin 0"
    return Finding("step_0_loss", grade(off, START_EXACT, START_ROUNDED), measured, expected, advice, off)


def _spikes(log: pd.DataFrame, max_grad_norm: float) -> Finding:
    gradient = _over_median(log["grad_norm"])
    loss = _over_median(log["loss"] / log["weight_mean"])
    count = int((gradient > SPIKE).sum())
    is_huge = bool(((gradient > HUGE_SPIKE) & (log["grad_norm"] > max_grad_norm)).any())
    status = worse("alarm" if is_huge else grade(gradient.max(), SPIKE), grade(loss.max(), LOSS_SPIKE))
    measured = f"largest gradient {gradient.max():.3g}, loss {loss.max():.3g} times the rolling median ({count} spikes)"
    expected = f"at most {SPIKE:g} and {LOSS_SPIKE:g}"
    advice = "Lower train.learning_rate, raise train.warmup_steps, or lower train.skip_above_median."
    return Finding("spikes", status, measured, expected, advice, float(gradient.max()))


def _skipped(log: pd.DataFrame) -> Finding:
    rows = log.astype(object).where(log.notna(), None).itertuples(index=False, name=None)
    overflows = np.array([is_overflow(dict(zip(map(str, log.columns), row, strict=True))) for row in rows])
    share = float((log["skipped"].to_numpy(bool) & ~overflows).mean())
    measured = f"{share:.1%} of the steps were skipped"
    if overflows.any():
        measured += f", in addition to {int(overflows.sum())} that lowered the loss scale"
    advice = "Lower train.learning_rate; the training's log names the pairs of each skipped step."
    return Finding("skipped", grade(share, SKIPPED, MANY_SKIPPED), measured, f"at most {SKIPPED:.0%}", advice, share)


def _winner(log: pd.DataFrame) -> Finding:
    """Check for DPO's known failure: the margin grows only because the loser gets worse faster than the winner."""
    drift = _moved(log)["winner"]
    begin, end = _ends(log["margin"])
    status = grade(drift, WINNER_WORSE, WINNER_MUCH_WORSE)
    grew = f"while the margin went from {begin:+.2f} to {end:+.2f}"
    measured = f"the winner's error ended at {drift:+.1%} relative to the reference's, {grew}"
    advice = (
        "The margin grows only because the loser gets worse: stop earlier, lower train.learning_rate, raise "
        "train.beta, or use train.objective.sft_weight or train.objective.sdpo_mu."
    )
    return Finding("winner_drift", status, measured, f"at most {WINNER_WORSE:+.0%}", advice, drift)


def _apart(log: pd.DataFrame) -> Finding:
    moved = _moved(log)
    winner, loser = moved["winner"], moved["loser"]
    gap = loser - winner
    status: Status = "warning" if gap <= 0 and max(abs(winner), abs(loser)) > STILL else "fine"
    advice = "The model changes, but not towards the winners: lower train.learning_rate, and look at the pairs."
    measured = f"winner {winner:+.2%}, loser {loser:+.2%} of the reference's error"
    return Finding("drift_apart", status, measured, "the loser's above the winner's", advice, gap)


def _buckets(log: pd.DataFrame) -> Finding:
    end = log.tail(max(1, len(log) // 3))  # a third, not a tenth: each bucket has only a quarter of the visits
    moved = np.zeros(DRIFT_BUCKETS)
    for side in ("winner", "loser"):
        moved += [abs(np.nanmean([0.0, *end[f"{side}_drift_{k}"].dropna()])) for k in range(DRIFT_BUCKETS)]
    expected = f"none above {BUCKET_SHARE:.0%}"
    if moved.sum() <= STILL * float(end["ref_error_winner"].mean()):
        return Finding("noise_levels", "fine", "the errors have hardly moved at any noise level", expected, value=0.25)
    share = float(moved.max() / moved.sum())
    low = moved.argmax() / DRIFT_BUCKETS
    measured = f"noise levels {low:g} to {low + 1 / DRIFT_BUCKETS:g} have {share:.0%} of all drift"
    advice = "One range of noise levels is saturated, the others hardly change: draw fewer there (schedule.timesteps)."
    return Finding("noise_levels", grade(share, BUCKET_SHARE), measured, expected, advice, share)


def _saturation(log: pd.DataFrame) -> Finding:
    (_, margin), (_, accuracy) = _ends(log["margin"]), _ends(log["accuracy"])
    is_saturated = margin > SATURATED_MARGIN and accuracy >= SATURATED_ACCURACY
    measured = f"margin {margin:.3g}, accuracy {accuracy:.2f} at the end"
    advice = "Most pairs no longer give a gradient: train.beta is too high, or the pairs are memorised; stop earlier."
    expected = f"a margin below {SATURATED_MARGIN:.2g} (sigmoid 0.99), or pairs left to learn"
    return Finding("saturation", "warning" if is_saturated else "fine", measured, expected, advice, margin)


def _learned(log: pd.DataFrame) -> Finding:
    (_, margin), (_, accuracy) = _ends(log["margin"]), _ends(log["accuracy"])
    is_nothing = abs(accuracy - 0.5) < NO_ACCURACY and abs(margin) < NO_MARGIN
    measured = f"accuracy {accuracy:.2f}, margin {margin:+.2g} at the end"
    expected = f"an accuracy {NO_ACCURACY:g} away from 0.5, or a margin {NO_MARGIN:g} away from 0"
    advice = "Nothing was learned: raise train.learning_rate, then train.beta, or train for longer."
    return Finding("learned", "warning" if is_nothing else "fine", measured, expected, advice, accuracy)


def _validation(log: pd.DataFrame) -> Finding:
    seen = log.dropna(subset=["validation_accuracy"])
    third = max(1, len(seen) // 3)  # a third, because validations are few
    begin, end = (float(part["validation_accuracy"].mean()) for part in (seen.head(third), seen.tail(third)))
    before, after = _ends(log["accuracy"])
    is_overfit = end < begin - OVERFIT and after > before + OVERFIT
    measured = f"validation accuracy {begin:.2f} to {end:.2f}, in training {before:.2f} to {after:.2f}"
    advice = "The model memorises the pairs: stop at the best validation accuracy, or collect more pairs."
    return Finding("overfit", "warning" if is_overfit else "fine", measured, "both rise", advice, end - begin)


def _safeguard(log: pd.DataFrame) -> Finding:
    shares = log["safeguard_share"].dropna()
    share = float(shares.mean())
    measured = f"train.objective.sdpo_mu acted on {share:.3g} of the pairs in {len(shares)} steps"
    advice = (
        "The training was the same as without it: raise train.objective.sdpo_mu, or use train.objective.sft_weight."
    )
    return Finding("safeguard", "fine" if share else "warning", measured, "some", advice, share)


def _moved(log: pd.DataFrame) -> dict[str, float]:
    moved = strength(log)
    assert moved is not None  # `log` has steps, all with finite errors
    return moved


def _ends(values: pd.Series) -> tuple[float, float]:
    count = tenth(values)
    return float(values.head(count).mean()), float(values.tail(count).mean())


def _over_median(values: pd.Series) -> pd.Series:
    around = values.rolling(WINDOW, center=True, min_periods=1).median()
    # The lower bound is for losses such as hinge, under which most gradients are 0: a step with a gradient is no spike.
    return values / around.clip(lower=max(LEAST_USUAL * float(values.abs().mean()), np.finfo(float).tiny))
