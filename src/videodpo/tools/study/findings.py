"""Test the findings of a study on its finished runs, and describe the results in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from videodpo.config.study import BASE
from videodpo.preference.comparison import Difference, bootstrap_difference, holm, resolvable_difference, verdict
from videodpo.runtime.seeds import derive_seed
from videodpo.tools.study.results import KEY, Run


def judge_findings(plan: Mapping[str, Any], runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Compare the two sides of each finding on the same held-out prompts and noise.

    Holm's correction covers all findings of the study, including those without a result: a failed arm must not loosen
    the tests of the other findings.

    Returns:
        One entry per finding, for `verdicts.json`.
    """
    findings = plan["study"]["findings"]
    by_arm: dict[str, dict[int, Run]] = {}
    for run in runs:
        by_arm.setdefault(run.arm, {})[run.seed] = run
    found = [_difference(finding, by_arm, plan["bootstrap_resamples"]) for finding in findings]
    corrected = holm([one.p if one else 1.0 for one in found])
    return [
        {**finding, **_entry(finding, difference, p, len(findings), len(plan["study"]["seeds"]))}
        for finding, difference, p in zip(findings, found, corrected, strict=True)
    ]


def _difference(
    finding: Mapping[str, Any], by_arm: Mapping[str, Mapping[int, Run]], resamples: int
) -> Difference | None:
    """Difference over the seeds that both sides have finished; None if there is none."""
    ours, score, seeds = by_arm.get(finding["arm"], {}), finding["score"], []
    for seed, run in sorted(ours.items()):
        theirs = run if finding["against"] == BASE else by_arm.get(finding["against"], {}).get(seed)
        if theirs is None or not all(score in one.names for one in (run, theirs)):
            continue
        side = "base" if finding["against"] == BASE else "aligned"
        left, right = run.scores.set_index(KEY)[f"aligned_{score}"], theirs.scores.set_index(KEY)[f"{side}_{score}"]
        paired = pd.concat([left, right], axis=1, join="inner", keys=["left", "right"]).dropna().reset_index()
        seeds.append((paired.left - paired.right, paired.prompt_id))
    if not seeds:
        return None
    name = " ".join((finding["arm"], finding["against"], score))
    return bootstrap_difference(seeds, resamples=resamples, seed=derive_seed(0, "study", name))


def _entry(
    finding: Mapping[str, Any], difference: Difference | None, corrected: float, num_tests: int, num_seeds: int
) -> dict[str, Any]:
    if difference is None:
        nothing = dict.fromkeys(("difference", "ci_low", "ci_high", "p", "p_holm", "resolvable", "num_prompts"))
        text = f"No result: no seed has {finding['score']} of both {finding['arm']} and {finding['against']}."
        return {"verdict": "no result", "text": text, "num_seeds": 0, **nothing}
    resolvable = resolvable_difference(difference.error, num_tests)
    outcome = verdict(difference.mean, corrected)
    interval = f"{difference.mean:+.4f}, 95 % interval {difference.low:+.4f} to {difference.high:+.4f}"
    sizes = f"{difference.num_prompts} prompts of {difference.num_seeds} seed{'s' * (difference.num_seeds > 1)}"
    words = {
        "reproduced": f"Reproduced: {interval}",
        "contradicted": f"Contradicted, the difference has the other sign: {interval}",
        "not resolved": f"Not resolved: {interval}",
    }[outcome]
    text = f"{words}; corrected p {corrected:.2g}, {sizes}. A difference of {resolvable:.4f} would have been resolved."
    if difference.num_seeds < num_seeds:
        text += f" {num_seeds - difference.num_seeds} of {num_seeds} seeds are missing."
    return {
        "verdict": outcome,
        "text": text,
        "num_seeds": difference.num_seeds,
        "difference": difference.mean,
        "ci_low": difference.low,
        "ci_high": difference.high,
        "p": difference.p,
        "p_holm": corrected,
        "resolvable": resolvable,
        "num_prompts": difference.num_prompts,
    }
