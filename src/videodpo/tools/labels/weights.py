"""Pillar and dimension weights that fit the votes best, as a block of the configuration.

Legend: D dimensions, R sets of weights.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from videodpo.config import OmniScore
from videodpo.preference.bradley_terry import agreement, fit_weights, held_out_logits, resampled_weights
from videodpo.preference.formula import dimension_shares
from videodpo.preference.statistics import percentiles
from videodpo.tools.labels.agreement import SEED, Share, share

MIN_PROMPTS = 10  # as many as folds
WEIGHT_RESAMPLES = 200


class Weight(NamedTuple):
    """A weight as a share: of both pillars, or of all dimensions in the same pillar.

    Attributes:
        now: share in the current configuration.
        fitted: share that fits the votes best.
        low, high: 95 % interval of the fitted share, over the prompts.
    """

    now: float
    fitted: float
    low: float
    high: float


class Fit(NamedTuple):
    """Result of `fit`.

    Attributes:
        pillars, dimensions: by name.
        now, fitted: held-out agreement with votes without ties, of the current and the fitted weights.
        gain: fitted minus now.
        num_votes: votes in the fit, with ties.
    """

    pillars: dict[str, Weight]
    dimensions: dict[str, Weight]
    now: Share
    fitted: Share
    gain: Share
    num_votes: int

    @property
    def is_better(self) -> bool:
        """True if the interval of the gain is above zero."""
        return self.gain.interval is not None and self.gain.interval[0] > 0


def fit(votes: pd.DataFrame, differences: pd.DataFrame, formula: OmniScore) -> Fit | str:
    """Fit the weights of the OmniScore to votes, without repeats.

    Args:
        votes: result of `with_numbers`, of the overall question.
        differences: result of `score_differences` for them.
        formula: the current weights, and the pillar of each dimension.

    Returns:
        The fit, or the reason why there is none.
    """
    names = sorted(formula.dimensions)
    usable = ~votes["repeat"] & differences[names].notna().all(axis=1)
    votes, differences = votes[usable], differences[usable]
    prompts = pd.factorize(votes["prompt_id"])[0]
    num_prompts = votes["prompt_id"].nunique()
    if num_prompts < MIN_PROMPTS:
        return f"votes on at least {MIN_PROMPTS} prompts are needed, there are {num_prompts}"
    inputs = differences[names].to_numpy(), votes["value"].to_numpy()
    (fitted,) = fit_weights(*inputs)
    if not fitted.any():
        return "no dimension agrees with the votes more often than chance, so every weight would be 0"
    decided = inputs[1] != 0.5
    owners = votes["prompt_id"][decided]
    by_now, by_fit = (
        pd.Series(agreement(logits[decided], inputs[1][decided]), index=owners.index)
        for logits in (differences["omniscore"].to_numpy(), held_out_logits(*inputs, prompts, SEED))
    )
    now, held_out, gain = (share(values, owners) for values in (by_now, by_fit, by_fit - by_now))
    if now is None or held_out is None or gain is None:
        return "all votes are ties"
    resampled = resampled_weights(*inputs, prompts, resamples=WEIGHT_RESAMPLES, seed=SEED)
    now_by_name = dimension_shares(formula)
    factors = np.vstack([[now_by_name[name] for name in names], fitted, resampled])
    pillars, dimensions = _weights(factors, formula)
    return Fit(pillars, dimensions, now, held_out, gain, len(votes))


def _weights(factors_RD: NDArray[np.float64], formula: OmniScore) -> tuple[dict[str, Weight], dict[str, Weight]]:
    """Split the factor of each dimension in the OmniScore into the weight of its pillar and its weight in the pillar.

    Args:
        factors_RD: factors of now, of the fit, and of each resample.
    """
    names = sorted(formula.dimensions)
    total_R = factors_RD.sum(axis=1)
    pillars: dict[str, Weight] = {}
    dimensions: dict[str, Weight] = {}
    for pillar in formula.pillars.model_dump():
        inside = [place for place, name in enumerate(names) if formula.dimensions[name].pillar == pillar]
        pillar_R = factors_RD[:, inside].sum(axis=1)
        pillars[pillar] = _weight(pillar_R, total_R)
        dimensions |= {names[place]: _weight(factors_RD[:, place], pillar_R) for place in inside}
    return pillars, dimensions


def _weight(part_R: NDArray[np.float64], whole_R: NDArray[np.float64]) -> Weight:
    shares_R = np.divide(part_R, whole_R, out=np.zeros_like(part_R), where=whole_R > 0)
    return Weight(float(shares_R[0]), float(shares_R[1]), *percentiles(shares_R[2:]))


def yaml_block(found: Fit) -> str:
    """The fitted weights as YAML to paste into the configuration."""
    lines = ["omniscore:", "  pillars:"]
    lines += [f"    {name}: {_number(weight)}" for name, weight in found.pillars.items()]
    lines.append("dimensions:")
    for name, weight in found.dimensions.items():
        lines += [f"  {name}:", f"    weight: {_number(weight)}"]
    return "\n".join(lines)


def _number(weight: Weight) -> str:
    return f"{weight.fitted:<8.3f}# {weight.low:.3f} to {weight.high:.3f}; now {weight.now:.3f}"
