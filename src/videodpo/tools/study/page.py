"""The page of a study: findings next to the paper's numbers, a table of the arms, and their differences as a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from videodpo.stages.report.html import page_environment
from videodpo.stages.report.intervals import draw_interval, label_rows
from videodpo.stages.report.style import Drawn, FigureFolder, Theme
from videodpo.tools.study.arms import Arm
from videodpo.tools.study.results import TOTALS, Missing


def render(
    root: Path,
    plan: Mapping[str, Any],
    table: pd.DataFrame,
    arms: Sequence[Arm],
    judges: Sequence[str],
    findings: Sequence[Mapping[str, Any]],
    missing: Sequence[Missing],
) -> str:
    """Draw the figures into <root>/figures and return the page's HTML.

    Args:
        root: folder of the study.
        plan: content of `study.json`.
        table: rows of `study.parquet`.
        arms: result of `compare_arms`.
        judges: scores that no arm is trained on.
        findings: result of `judge_findings`.
        missing: runs that are not finished.
    """
    figures = FigureFolder(root / "figures")
    scores = [name for name in (*TOTALS, *judges) if name in set(table.score)]
    drawn = []
    if judged := [finding for finding in findings if finding["difference"] is not None]:
        drawn.append(_findings(figures, judged))
    if "omniscore" in scores and judges:
        drawn.append(_tradeoff(figures, arms, judges))
    drawn += [_forest(figures, table, [arm.name for arm in arms], name) for name in scores]
    figures.remove_others()
    template = page_environment("videodpo.tools.study").get_template("page.html")
    return template.render(
        study=plan["study"],
        num_runs=len(plan["runs"]),
        findings=findings,
        arms=arms,
        columns=scores,
        judges=judges,
        drawn=drawn,
        missing=missing,
    )


def _tradeoff(figures: FigureFolder, arms: Sequence[Arm], judges: Sequence[str]) -> Drawn:
    """Change of each judge against that of the OmniScore: one number per arm, its row in the table of the arms."""
    data = pd.DataFrame(
        [
            {"number": number, "arm": arm.name} | {name: arm.deltas.get(name) for name in ("omniscore", *judges)}
            for number, arm in enumerate(arms, 1)
        ]
    )

    def paint(figure: Figure, theme: Theme) -> None:
        for axes, judge in zip(figure.subplots(1, len(judges), squeeze=False)[0], judges, strict=True):
            axes.axhline(0, color=theme.muted, linewidth=1)
            axes.axvline(0, color=theme.muted, linewidth=1)
            for _, row in data.dropna(subset=["omniscore", judge]).iterrows():
                at = row["omniscore"], row[judge]
                axes.plot(*at, "o", color=theme.surface, markeredgecolor=theme.accent, markersize=13)
                axes.annotate(str(row["number"]), at, ha="center", va="center", fontsize=8, color=theme.ink)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.set_xlabel("change of omniscore")
            axes.set_title(judge, fontsize=10, color=theme.ink)

    return figures.draw(
        "judges",
        paint,
        data=data,
        title="OmniScore against the judges",
        caption="Change of each judge by that of the OmniScore, means over the seeds; the numbers are those of the "
        "table. An arm far to the right whose judge is low exploits the scorers: reward hacking.",
        size=(7.2, 3.4),
    )


def _forest(figures: FigureFolder, table: pd.DataFrame, arms: Sequence[str], score: str) -> Drawn:
    chosen = table[table.score == score]
    names = [name for name in arms if name in set(chosen.arm)]

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
