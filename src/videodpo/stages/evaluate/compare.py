"""Evaluation stage: paired comparison of both models' scores, and its summary."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from videodpo.config.errors import RunError
from videodpo.dpo.strength import strength
from videodpo.preference import omniscore
from videodpo.preference.statistics import CONFIDENCE, bootstrap_interval, motion_panel, win_rate
from videodpo.runtime.failures import refuse_too_many
from videodpo.runtime.locks import writes
from videodpo.runtime.seeds import derive_seed
from videodpo.runtime.settings import EvaluateSettings
from videodpo.runtime.snapshot import Snapshot
from videodpo.stages.evaluate.headroom import measure_headrooms
from videodpo.storage.manifests import edited_inputs, record_json
from videodpo.storage.schemas import EVALUATION
from videodpo.storage.scores import ScoredVideos, read_scored
from videodpo.storage.tables import read_table, write_table

log = logging.getLogger(__name__)

ARMS = ("base", "aligned")
_KINDS = ("total", "pillar", "dimension", "reported", "judge")


@writes("evaluation/prompts.parquet")
def evaluate(snapshot: Snapshot[EvaluateSettings], round_folder: Path) -> None:
    """Compare base and aligned clips of the same prompts; write `evaluation/prompts.parquet` and `summary.json`.

    A clip counts if both arms have it with every score of the OmniScore. A dimension outside the OmniScore, such as a
    judge, is compared on the clips that it scored in both arms. If there are none, it is listed as not applicable.

    Raises:
        InputError: a table of the first round, or the training log, is missing or unreadable.
        RunError: the arms do not hold the same clips, scores and videos do not match, more than
            `max_failed_fraction` is left out, or there is nothing to compare.
    """
    settings, folder = snapshot.settings, round_folder / "evaluation"
    prompts = snapshot.folder / "prompts.parquet"
    scored = {
        arm: read_scored(folder / "videos" / arm, folder / "scores" / arm, settings.dimensions, prompts) for arm in ARMS
    }
    values, num_left_out = _paired(scored, settings, snapshot.execution.max_failed_fraction)
    base, aligned = (values[arm] for arm in ARMS)
    names = sorted(set(base.columns) - {"prompt_id", "sample"})
    deltas = aligned[names] - base[names]
    not_applicable = {name: _first_error(name, scored) for name in names if deltas[name].isna().all()}
    names = [name for name in names if name not in not_applicable]
    rows = pd.DataFrame(
        {
            "prompt_id": base.prompt_id.repeat(len(names)),
            "sample": base["sample"].repeat(len(names)),
            "dimension": names * len(base),
            "base": base[names].to_numpy().ravel(),
            "aligned": aligned[names].to_numpy().ravel(),
            "delta": deltas[names].to_numpy().ravel(),
        }
    )
    write_table(
        folder / "prompts.parquet",
        rows[rows.delta.notna()],
        EVALUATION,
        **snapshot.provenance,
        extra={"num_left_out": str(num_left_out), **edited_inputs(snapshot.folder / "prompts.parquet")},
    )
    dimensions = _summarise(base, aligned, names, snapshot)
    summary = {
        "run": snapshot.run,
        "round": round_folder.name,
        "seed": snapshot.seed,
        "config_digest": snapshot.digest,
        "confidence": CONFIDENCE,
        "bootstrap": settings.evaluate.bootstrap_resamples,
        "num_prompts": int(base.prompt_id.nunique()),
        "num_clips": len(base),
        "num_left_out": num_left_out,
        "not_applicable": not_applicable,
        "order": sorted(names, key=lambda name: (_KINDS.index(dimensions[name]["kind"]), name)),
        "dimensions": dimensions,
        "strength": strength(read_table(round_folder / "train_log.parquet")),
        "motion": None,
    }
    if (motion := settings.evaluate.motion_dimension) in names:
        assert motion is not None
        there = deltas[motion].notna()
        summary["motion"] = motion_panel(motion, base[motion][there], aligned[motion][there])
    record_json(folder / "summary.json", summary)
    log.info("evaluation: %d clip pairs, %d left out", len(base), num_left_out)


def _paired(
    scored: dict[str, ScoredVideos], settings: EvaluateSettings, max_failed_fraction: float
) -> tuple[dict[str, pd.DataFrame], int]:
    """Values of both arms for the clips that both have, in the order of the prompts, and the number of clips left out.

    Values of dimensions outside the OmniScore are NaN where scoring failed.
    """
    needed = sorted(settings.omniscore.dimensions)
    keyed = {}
    for arm, found in scored.items():
        table = pa.table(found.columns).to_pandas()
        table["reason"] = table.video_id.map(found.reasons(needed)).astype(object)
        keyed[arm] = table.set_index(["prompt_id", "sample"])
    if set(keyed["base"].index) != set(keyed["aligned"].index):
        odd = sorted(set(keyed["base"].index) ^ set(keyed["aligned"].index))[0]
        raise RunError(f"evaluation: prompt {odd[0]}, sample {odd[1]} is in one arm only; sample both arms again")
    reasons = pd.DataFrame({arm: table.reason for arm, table in keyed.items()})
    if reasons.empty:
        raise RunError("evaluation: no clips to compare; prompts.num_heldout must be 1 or more")
    failed = reasons[reasons.notna().any(axis=1)]
    why = ("base: " + failed["base"]).fillna("aligned: " + failed["aligned"])
    names = [f"{prompt_id}-{sample}" for prompt_id, sample in failed.index]
    refuse_too_many("evaluation", dict(zip(names, why, strict=True)), len(reasons), max_failed_fraction)
    kept = reasons.index[reasons.isna().all(axis=1)]
    values = {}
    for arm, table in keyed.items():
        raw = table.loc[kept].reset_index()
        columns = {column: column.removeprefix("raw_") for column in raw.columns if column.startswith("raw_")}
        # Standardised scores of a prompt's clips say nothing about the difference of two models.
        totals = omniscore(raw, settings.omniscore.by_range)[["omniscore", *settings.omniscore.weighted_pillars]]
        values[arm] = pd.concat(
            [raw[["prompt_id", "sample"]], raw[list(columns)].rename(columns=columns), totals], axis=1
        )
    return values, len(failed)


def _first_error(name: str, scored: dict[str, ScoredVideos]) -> str:
    return next(error for found in scored.values() for error in found.errors[name].values())


def _summarise(
    base: pd.DataFrame, aligned: pd.DataFrame, names: list[str], snapshot: Snapshot[EvaluateSettings]
) -> dict[str, dict[str, Any]]:
    resamples = snapshot.settings.evaluate.bootstrap_resamples
    deltas = aligned[names] - base[names]
    headrooms = measure_headrooms(names, base, snapshot)
    summary = {}
    for name in names:
        there = deltas[name].notna()
        delta, prompt_ids = deltas[name][there], base.prompt_id[there]
        seed = derive_seed(snapshot.seed, "bootstrap")  # the same draws for all dimensions that scored the same prompts
        interval = bootstrap_interval(delta, prompt_ids, resamples=resamples, seed=seed)
        low, high = interval or (None, None)
        summary[name] = {
            "kind": _kind(name, snapshot.settings),
            "num_clips": int(there.sum()),
            "base": float(base[name][there].mean()),
            "aligned": float(aligned[name][there].mean()),
            "delta": float(delta.mean()),
            "ci_low": low,
            "ci_high": high,
            "win_rate": win_rate(delta),
            **headrooms[name].compare(delta, prompt_ids, resamples=resamples, seed=snapshot.seed),
        }
    return summary


def _kind(name: str, settings: EvaluateSettings) -> str:
    pillars, dimensions = settings.omniscore.weighted_pillars, settings.omniscore.dimensions
    if name == "omniscore":
        return "total"
    if name in pillars:
        return "pillar"
    if name in settings.evaluate.judges:
        return "judge"
    counts = name in dimensions and dimensions[name].pillar in pillars and dimensions[name].weight > 0
    return "dimension" if counts else "reported"
