"""Headline and tables of the page, as plain rows for the template."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from videodpo.stages.report.inputs import Finished

_VERDICTS = {
    "up": "The aligned model scores higher on held-out prompts.",
    "down": "The aligned model scores lower on held-out prompts.",
    "even": "No clear difference: the interval includes zero.",
}


def headline(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Row of the OmniScore, and one sentence that claims no more than its interval does."""
    row = summary["dimensions"]["omniscore"]
    kind = _direction(row)
    verdict = _VERDICTS[kind]
    if row["ci_low"] is None:
        verdict = "No claim: a single held-out prompt has no interval."
    tiles = [
        {"name": name, **summary["dimensions"][name]}
        for name in summary["order"]
        if summary["dimensions"][name]["kind"] in ("pillar", "judge")
    ]
    return {**row, "verdict": verdict, "direction": kind, "tiles": tiles}


def summary_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per dimension, the OmniScore first, with the side of zero on which its interval lies."""
    rows = []
    for name in summary["order"]:
        row = summary["dimensions"][name]
        rows.append({"name": name, "direction": _direction(row), **row})
    return rows


def headroom_sources(summary: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Prompts on which headrooms were measured, with the number of samples per prompt."""
    rows = [row for row in summary["dimensions"].values() if row["gain"] is not None]
    return sorted({(row["headroom_source"], row["headroom_samples"]) for row in rows}, reverse=True)


def benchmark_rows(benchmark: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """One row per total and dimension of the benchmark, with the side of zero on which its interval lies."""
    return [{"direction": _direction(row), **row} for row in benchmark["rows"]] if benchmark else []


def _direction(row: Mapping[str, Any]) -> str:
    """Side of zero on which the interval lies; "even" if it includes zero, or if there is none."""
    if row.get("ci_low") is None:
        return "even"
    return "up" if row["ci_low"] > 0 else "down" if row["ci_high"] < 0 else "even"


def flow_rows(finished: Finished) -> list[tuple[str, int, str]]:
    """Number of items that each step passed on, and what it dropped."""
    split, status = finished.prompts.split.value_counts(), finished.videos.status.value_counts()
    heldout, train = int(split.get("heldout", 0)), int(split.get("train", 0))
    return [
        ("prompts", train + heldout, f"{train} to train, {heldout} held out; {len(finished.prompts_dropped)} dropped"),
        ("videos", int(status.get("ok", 0)), f"{int(status.get('failed', 0))} failed"),
        ("videos with an OmniScore", len(finished.scores), f"{finished.num_left_out} left out"),
        ("pairs", len(finished.pairs), f"{len(finished.pairs_rejected)} rejected"),
        ("training steps", len(finished.train_log), ""),
        ("clip pairs compared", int(finished.summary["num_clips"]), f"{finished.summary['num_left_out']} left out"),
    ]


def provenance_rows(finished: Finished) -> list[dict[str, str]]:
    """One row per table: stage, version, commit, seed, digest of the settings snapshot, and scorer."""
    keys = ("stage", "package_version", "commit", "seed", "config_digest")
    return [
        {"table": table, "scorer": scorer, **{key: metadata.get(key, "") for key in keys}}
        for table, metadata, scorer in finished.provenance
    ]
