"""The arms of a study side by side: means over their seeds, for the page and the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Arm:
    """Means of one arm over its finished seeds.

    Attributes:
        deltas: aligned minus base, by score.
        gain: change of the OmniScore as a share of its best-of-N headroom; None if the arm's own formula differs.
        motion: relative change of the motion dimension; None without one.
        strength: how far the training moved the model's errors from the reference's, relative; None if not measured.
    """

    name: str
    about: str
    num_seeds: int
    deltas: Mapping[str, float]
    gain: float | None
    motion: float | None
    strength: float | None


def compare_arms(table: pd.DataFrame, plan: Mapping[str, Any]) -> list[Arm]:
    """Arms in the order of the study file.

    Args:
        table: rows of `study.parquet`.
        plan: content of `study.json`.
    """
    return [_arm(name, table[table.arm == name], plan) for name in dict.fromkeys(run["arm"] for run in plan["runs"])]


def _arm(name: str, rows: pd.DataFrame, plan: Mapping[str, Any]) -> Arm:
    totals = rows[rows.score == "omniscore"]
    return Arm(
        name=name,
        about=plan["study"]["arms"][name]["about"],
        num_seeds=int(rows.seed.nunique()),
        deltas={str(score): float(delta) for score, delta in rows.groupby("score").delta.mean().items()},
        gain=_mean(totals.gain),
        motion=_mean(rows.drop_duplicates("seed").motion),
        strength=_mean(rows.drop_duplicates("seed").strength),
    )


def _mean(values: pd.Series[Any]) -> float | None:
    mean = values.astype(float).mean()
    return None if pd.isna(mean) else float(mean)


def format_arms(arms: Sequence[Arm], judges: Sequence[str]) -> str:
    """Table for the terminal: one line per finished arm, with the changes of the OmniScore and of the judges."""
    rows = {
        arm.name: {
            "seeds": str(arm.num_seeds),
            "omniscore": _delta(arm, "omniscore"),
            "gain": _percent(arm.gain, "z.0f"),
            **{judge: _delta(arm, judge) for judge in judges},
            "motion": _percent(arm.motion, "+.1f"),
            "strength": _percent(arm.strength, "+.1f"),
        }
        for arm in arms
        if arm.num_seeds
    }
    return pd.DataFrame.from_dict(rows, orient="index").to_string()


def _delta(arm: Arm, score: str) -> str:
    return f"{arm.deltas[score]:+.4f}" if score in arm.deltas else ""


def _percent(share: float | None, form: str) -> str:
    return "" if share is None else f"{100 * share:{form}} %"
