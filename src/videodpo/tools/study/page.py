"""The page of a study: findings next to the paper's numbers, a table of the arms, and their differences as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from videodpo.stages.report.html import page_environment
from videodpo.stages.report.intervals import draw_interval, label_rows
from videodpo.stages.report.style import Drawn, FigureFolder, Theme
from videodpo.tools.study.results import TOTALS, Missing


def render(
    root: Path,
    plan: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    findings: Sequence[Mapping[str, Any]],
    missing: Sequence[Missing],
) -> str:
    """Draw the figures into <root>/figures and return the page's HTML."""
    figures = FigureFolder(root / "figures")
    table = pd.DataFrame(rows)
    drawn = [_forest(figures, table, plan, name) for name in TOTALS if name in set(table.score)]
    if judged := [finding for finding in findings if finding["difference"] is not None]:
        drawn.insert(0, _findings(figures, judged))
    figures.remove_others()
    template = page_environment("videodpo.tools.study").get_template("page.html")
    return template.render(
        study=plan["study"],
        num_runs=len(plan["runs"]),
        findings=findings,
        arms=_arms(table, plan),
        columns=[name for name in TOTALS if name in set(table.score)],
        drawn=drawn,
        missing=missing,
    )


def _arms(table: pd.DataFrame, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per arm: its finished seeds, and the mean over them of each column's difference and of the motion."""
    rows = []
    for name in _names(plan):
        mine = table[table.arm == name]
        means = {score: float(one.delta.mean()) for score, one in mine.groupby("score") if score in TOTALS}
        shares = 100 * mine.drop_duplicates("seed")[["motion", "strength"]].astype(float).mean()
        rows.append(
            {
                "name": name,
                "about": plan["study"]["arms"][name]["about"],
                "num_seeds": int(mine.seed.nunique()),
                "means": means,
                **{str(key): None if pd.isna(share) else float(share) for key, share in shares.items()},
            }
        )
    return rows


def _names(plan: Mapping[str, Any]) -> list[str]:
    """Arms in the order of the study file."""
    return list(dict.fromkeys(run["arm"] for run in plan["runs"]))


def _forest(figures: FigureFolder, table: pd.DataFrame, plan: Mapping[str, Any], score: str) -> Drawn:
    chosen = table[table.score == score]
    names = [name for name in _names(plan) if name in set(chosen.arm)]

    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for number, name in enumerate(names):
            seeds = chosen[chosen.arm == name].sort_values("seed")
            seeds = seeds.astype(object).where(seeds.notna(), None)
            for offset, row in enumerate(seeds.to_dict("records")):
                height = -number - 0.6 * ((offset + 1) / (len(seeds) + 1) - 0.5)
                draw_interval(axes, theme, height, row["delta"], row["ci_low"], row["ci_high"])
        label_rows(axes, theme, names, "aligned minus base")

    return figures.draw(
        f"arms-{score}",
        paint,
        data=chosen,
        title=f"Change of {score} by arm",
        caption="Aligned minus base on the held-out prompts, one line per seed with its 95 % interval (paired "
        "bootstrap over the prompts of the seed). Filled: the interval excludes zero.",
        size=(7.2, 0.9 + 0.34 * len(names)),
    )


def _findings(figures: FigureFolder, judged: Sequence[Mapping[str, Any]]) -> Drawn:
    def paint(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        for number, finding in enumerate(judged):
            draw_interval(axes, theme, -number, finding["difference"], finding["ci_low"], finding["ci_high"])
        labels = [f"{finding['arm']} - {finding['against']}, {finding['score']}" for finding in judged]
        label_rows(axes, theme, labels, "difference")

    return figures.draw(
        "findings",
        paint,
        data=pd.DataFrame(judged)[["arm", "against", "score", "difference", "ci_low", "ci_high"]],
        title="Findings",
        caption="Difference of the two sides of each finding over all seeds, with its 95 % interval before Holm's "
        "correction.",
        size=(7.2, 0.9 + 0.3 * len(judged)),
    )
