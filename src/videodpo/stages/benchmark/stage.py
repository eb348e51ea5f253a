"""Benchmark stage: mean of each dimension, totals, and the difference of both models with its interval.

Legend: R resamples, P prompts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from videodpo.config.benchmark import RunSuite
from videodpo.preference.statistics import CONFIDENCE, percentiles
from videodpo.preference.suites.base import scale
from videodpo.runtime.benchmark_settings import BenchmarkSettings
from videodpo.runtime.locks import writes
from videodpo.runtime.registry import suite_rules
from videodpo.runtime.seeds import derive_seed
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.benchmark.clips import Count, count_clips, read_clips, unknown_files
from videodpo.stages.benchmark.comparison import add_official
from videodpo.stages.benchmark.prompts import read_group_prompts
from videodpo.stages.benchmark.table import format_benchmark, write_csv, write_latex
from videodpo.storage.manifests import read_manifest, record_json
from videodpo.storage.schemas import BENCHMARK
from videodpo.storage.tables import write_table

log = logging.getLogger(__name__)
Means = dict[str, NDArray[np.float64]]


@writes("benchmark/clips.parquet")
def benchmark(snapshot: Snapshot[BenchmarkSettings], round_folder: Path) -> None:
    """Write `benchmark/clips.parquet`, `summary.json`, `table.csv` and `table.tex`.

    A score that failed is left out of its mean, and the mean and the totals are marked as incomplete.

    Raises:
        InputError: a table is missing or unreadable.
    """
    settings, folder = snapshot.settings, round_folder / "benchmark"
    prompts = read_group_prompts(snapshot.folder, settings.suite)
    clips = read_clips(folder, settings.suite, settings.arms, prompts)
    write_table(folder / "clips.parquet", clips.drop(columns=["group", "failed"]), BENCHMARK, **snapshot.provenance)
    counts = count_clips(clips, settings.suite, settings.arms)
    means, resampled = _means(clips, settings, derive_seed(snapshot.seed, "benchmark bootstrap"))
    rows = _rows(means, resampled, counts, settings)
    notes = [
        note for arm, one in settings.folders.items() for note in unknown_files(arm, one.path, settings.suite, prompts)
    ]
    if left_out := settings.suite.left_out:
        notes.append(f"no total: {len(left_out)} dimensions were not scored ({', '.join(left_out)})")
    for arm in settings.arms if not left_out else []:
        if missing := [name for name in settings.suite.weighted if name not in means[arm]]:
            notes.append(f"no total for {arm}: no score in {', '.join(missing)}")
    notes += [note for (arm, name), count in counts.items() for note in count.notes(arm, name)]
    if without := [row["name"] for row in rows if row.get("delta") is not None and row["ci_low"] is None]:
        notes.append(f"no interval for {', '.join(without)}: too few prompts have clips that count")
    rows, official_notes = add_official(rows, clips, prompts, settings, folder)
    has_adapter = "aligned" in settings.arms and "aligned" not in settings.folders
    summary = {
        "run": snapshot.run,
        "round": round_folder.name,
        "seed": snapshot.seed,
        "config_digest": snapshot.digest,
        "confidence": CONFIDENCE,
        "bootstrap": settings.bootstrap_resamples,
        "suite": settings.suite_name,
        "sampled": settings.sampled,
        "adapter": read_manifest(round_folder / "adapter") if has_adapter else {},
        "folders": {arm: one.path for arm, one in settings.folders.items()},
        "arms": settings.arms,
        "rows": rows,
        "official": list(settings.official),
        "published": settings.suite.published,
        "notes": notes + official_notes,
    }
    record_json(folder / "summary.json", summary)
    write_csv(folder / "table.csv", summary)
    write_latex(folder / "table.tex", summary)
    log.info("%s", format_benchmark(summary))


def _means(clips: pd.DataFrame, settings: BenchmarkSettings, seed: int) -> tuple[dict[str, Means], dict[str, Means]]:
    """Mean of each dimension, by arm: of all clips [1], and of resampled prompts [R].

    The prompts of a group are drawn with replacement, each with all its clips, for both arms and all its dimensions
    together. Groups are drawn independently, so each keeps its number of prompts.
    """
    means: dict[str, Means] = {arm: {} for arm in settings.arms}
    resampled: dict[str, Means] = {arm: {} for arm in settings.arms}
    rng = np.random.Generator(np.random.PCG64(seed))
    used = clips[clips["counted"] & clips["value"].notna()]
    for group in settings.suite.groups.values():
        inside = used[used["dimension"].isin(group.dimensions)]
        sums = inside.pivot_table(index="prompt_id", columns=["arm", "dimension"], values="value", aggfunc="sum")
        sizes = inside.pivot_table(index="prompt_id", columns=["arm", "dimension"], values="value", aggfunc="count")
        num_prompts = len(sums)
        if not num_prompts:
            continue
        draws_RP = rng.multinomial(
            num_prompts, np.full(num_prompts, 1 / num_prompts), size=settings.bootstrap_resamples
        )
        for arm, name in ((arm, name) for arm in settings.arms for name in group.dimensions if (arm, name) in sums):
            sums_P, sizes_P = sums[arm, name].fillna(0.0).to_numpy(), sizes[arm, name].fillna(0).to_numpy()
            means[arm][name] = np.array([sums_P.sum() / sizes_P.sum()])
            with np.errstate(invalid="ignore"):
                found_R = draws_RP @ sums_P / (draws_RP @ sizes_P)
            resampled[arm][name] = found_R if num_prompts > 1 else np.full_like(found_R, np.nan)
    return means, resampled


def _rows(
    means: Mapping[str, Means],
    resampled: Mapping[str, Means],
    counts: Mapping[tuple[str, str], Count],
    settings: BenchmarkSettings,
) -> list[dict[str, Any]]:
    """One row per total and dimension: the mean of each arm, and the difference with its interval."""
    suite, rules = settings.suite, suite_rules(settings.suite.module)
    all_means, all_resampled = {}, {}
    for arm in settings.arms:
        has_all = bool(suite.weighted) and not suite.left_out and set(suite.weighted) <= means[arm].keys()
        all_means[arm] = (rules.totals(means[arm], suite) if has_all else {}) | means[arm]
        all_resampled[arm] = (rules.totals(resampled[arm], suite) if has_all else {}) | resampled[arm]
    totals = dict.fromkeys(name for found in all_means.values() for name in found if name not in suite.dimensions)
    rows = []
    for name in (*totals, *suite.dimensions):
        needed = [name] if name in suite.dimensions else suite.weighted
        row: dict[str, Any] = {"name": name, "kind": _kind(name, suite)}
        for arm in settings.arms:
            found = all_means[arm].get(name)
            row[arm] = None if found is None else float(found[0])
            row[f"{arm}_complete"] = all(counts[arm, one].is_complete for one in needed)
            if name in suite.dimensions:
                row[f"{arm}_clips"] = counts[arm, name].scored
                if found is not None and suite.dimensions[name].pillar:
                    row[f"{arm}_scaled"] = float(scale(found, suite, name)[0])
        if set(settings.arms) == {"base", "aligned"}:
            row |= _difference(row, name, all_resampled)
        rows.append(row)
    return rows


def _difference(row: Mapping[str, Any], name: str, resampled: Mapping[str, Means]) -> dict[str, Any]:
    if row["base"] is None or row["aligned"] is None:
        return {"delta": None, "ci_low": None, "ci_high": None}
    deltas_R = resampled["aligned"][name] - resampled["base"][name]
    low, high = percentiles(deltas_R) if np.isfinite(deltas_R).all() else (None, None)
    return {"delta": row["aligned"] - row["base"], "ci_low": low, "ci_high": high}


def _kind(name: str, suite: RunSuite) -> str:
    if name not in suite.dimensions:
        return "pillar" if name in suite.pillars.model_dump() else "total"
    return "dimension" if suite.dimensions[name].pillar else "reported"
