"""Compare a benchmark's means and clips with what the benchmark's own program gave for the same clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from videodpo.config.errors import InputError
from videodpo.preference.suites.base import OfficialResult
from videodpo.runtime.benchmark_settings import BenchmarkSettings
from videodpo.runtime.registry import suite_rules
from videodpo.storage.manifests import require_intact


def add_official(
    rows: Sequence[Mapping[str, Any]],
    clips: pd.DataFrame,
    prompts: pd.DataFrame,
    settings: BenchmarkSettings,
    folder: Path,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Add the results of the benchmark's own program to the rows; a dimension that only it scored gets a row.

    A result that cannot be used costs its own cell only.

    Args:
        rows: rows of the summary.
        clips: scores of all clips, as `read_clips` returns them.
        prompts: table of the benchmark's prompts.
        settings: settings of the stage.
        folder: `round<r>/benchmark`.

    Returns:
        The rows, and one sentence for everything that a reader has to know.
    """
    suite, groups = settings.suite, settings.official_groups
    rules = suite_rules(suite.module)
    by_name: dict[str, dict[str, Any]] = {row["name"]: dict(row) for row in rows}
    notes: list[str] = []
    for arm, file in settings.official.items():
        path = Path(file) if file else folder / "official" / f"{arm}.json"
        found: dict[str, OfficialResult]
        try:
            require_intact(path)
            found, problems = rules.read_official(path, groups)
        except InputError as error:
            notes.append(f"official {arm}: no results: {error}")
            continue
        notes += [f"official {arm}, {name}: {reason}" for name, reason in problems.items()]
        if unsampled := [name for name in found if groups[name] is None]:
            notes.append(
                f"official {arm}: this run has no clips for {', '.join(unsampled)}; these results are not shown"
            )
        if missing := [name for name, group in groups.items() if group and name not in {*found, *problems}]:
            notes.append(f"official {arm}: no result for {', '.join(missing)}")
        shown: dict[str, OfficialResult] = {}
        for name, result in found.items():
            if (group := groups[name]) is None:
                continue
            texts = prompts[prompts["group"] == group]["prompt"]
            samples = min(suite.groups[group].samples, rules.official_samples)
            expected = {f"{prompt}-{sample}" for prompt in texts for sample in range(samples)}
            if odd := sorted(result.clips.keys() - expected):
                notes.append(
                    f"official {arm}, {name}: not shown, {len(odd)} clips are not those of this benchmark, for example "
                    f"{odd[0]!r}"
                )
                continue
            has_all = len(result.clips) == len(expected)
            is_complete = has_all or name in rules.optional_clips
            if not has_all:
                incomplete = "" if is_complete else "incomplete, "
                notes.append(f"official {arm}, {name}: {incomplete}{len(result.clips)} of {len(expected)} clips")
            shown[name] = result
            row = by_name.setdefault(name, _row(name, settings.arms))
            row |= _figures(arm, result.mean, row[arm], is_complete=is_complete)
            row[f"official_{arm}_clips"] = len(result.clips)
            if name in suite.dimensions and name not in rules.renamed_clips:
                row |= _largest(arm, result, clips[(clips["arm"] == arm) & (clips["dimension"] == name)])
        if not suite.left_out and set(suite.weighted) <= shown.keys():
            totals = rules.totals({name: np.array([shown[name].mean]) for name in suite.weighted}, suite)
            is_complete = all(by_name[name][f"official_{arm}_complete"] for name in suite.weighted)
            for name in totals.keys() & by_name.keys():
                total = float(totals[name][0])
                by_name[name] |= _figures(arm, total, by_name[name][arm], is_complete=is_complete)
    return list(by_name.values()), notes


def _row(name: str, arms: list[str]) -> dict[str, Any]:
    """Row of a dimension that the run did not score."""
    row: dict[str, Any] = {"name": name, "kind": "dimension"}
    for arm in arms:
        row |= {arm: None, f"{arm}_complete": False, f"{arm}_clips": 0}
    return row | (dict.fromkeys(("delta", "ci_low", "ci_high")) if len(arms) == 2 else {})


def _figures(arm: str, mean: float, own: float | None, *, is_complete: bool) -> dict[str, Any]:
    return {
        f"official_{arm}": mean,
        f"official_{arm}_complete": is_complete,
        f"official_{arm}_difference": None if own is None else own - mean,
    }


def _largest(arm: str, result: OfficialResult, clips: pd.DataFrame) -> Mapping[str, Any]:
    """Largest difference of one clip, and the clip; empty if no clip has both scores."""
    own = clips[clips["counted"] & clips["value"].notna()]
    scores = pd.Series(own["value"].to_numpy(), index=own["prompt"] + "-" + own["sample"].astype(str))
    differences = (scores - pd.Series(result.clips)).abs().dropna()
    if differences.empty:
        return {}
    return {f"official_{arm}_largest": float(differences.max()), f"official_{arm}_largest_clip": differences.idxmax()}
