"""Figures of the data (scores, gaps, samples, correlations) and of the result per dimension.

Legend: P prompts, N samples per prompt.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from videodpo.stages.report.inputs import Finished
from videodpo.stages.report.intervals import draw_interval, label_rows
from videodpo.stages.report.style import Drawn, FigureFolder, Theme

_BIN = 0.01  # bin width of the paper; wider if there were more than _MAX_BARS bars
_MAX_BARS = 120


def data_figures(finished: Finished, folder: FigureFolder) -> list[Drawn]:
    """Draw the OmniScore histogram, gaps within pairs, gap against N, and the correlation of the dimensions."""
    scores, gaps = finished.scores.omniscore.to_numpy(), finished.pairs.gap.dropna().to_numpy()
    if not len(scores):  # the pairs are the user's own
        return []
    drawn = [
        folder.draw(
            "omniscore",
            lambda figure, theme: _histogram(figure, theme, scores, "OmniScore", "videos"),
            data=_bins(scores),
            title="OmniScore of every video",
            caption=f"{len(scores)} videos. With re-weighting, a pair counts more the rarer its scores are.",
        )
    ]
    if len(gaps):
        drawn.append(
            folder.draw(
                "gaps",
                lambda figure, theme: _histogram(figure, theme, gaps, "winner minus loser, OmniScore", "pairs"),
                data=_bins(gaps),
                title="Gap within pairs",
                caption=f"{len(gaps)} pairs, policy {', '.join(sorted(finished.pairs.policy.unique()))}.",
            )
        )
    full_PN = _full_prompts(finished)
    if full_PN.shape[0] and full_PN.shape[1] > 1:
        drawn.append(
            folder.draw(
                "gap-by-samples",
                lambda figure, theme: _gap_by_samples(figure, theme, full_PN),
                data=_gap_table(full_PN),
                title="Gap against the number of samples",
                caption=f"Expected best-minus-worst gap when only n of the {full_PN.shape[1]} samples of a prompt are "
                f"used, exact over all subsets. Line: mean of {full_PN.shape[0]} prompts with its 95 % interval; "
                "band: the middle half of the prompts.",
            )
        )
    names = finished.dimensions
    correlations = finished.scores[[f"norm_{name}" for name in names]].corr().to_numpy()
    side = 2.4 + 0.34 * len(names)
    drawn.append(
        folder.draw(
            "correlations",
            lambda figure, theme: _correlations(figure, theme, names, correlations),
            data=pd.DataFrame(correlations, columns=names).assign(dimension=names)[["dimension", *names]],
            title="Correlation of the dimensions",
            caption="Pearson correlation of the scaled scores over all videos; a dash where a dimension never varies.",
            size=(max(6.2, side * 1.25), max(3.3, side)),
        )
    )
    return drawn


def forest(finished: Finished, folder: FigureFolder) -> Drawn:
    """Draw the difference between aligned and base for each dimension, with its interval, on one scale."""
    table = _forest_table(finished)
    return folder.draw(
        "by-dimension",
        lambda figure, theme: _forest(figure, theme, table),
        data=table,
        title="Before and after, by dimension",
        caption="Mean change on held-out prompts with its 95 % interval (paired bootstrap over prompts), in standard "
        "deviations of the clips' scores so that every dimension fits one axis. Filled: the interval excludes zero.",
        size=(6.2, 0.9 + 0.27 * len(table)),
    )


def expected_gaps(scores_PN: np.ndarray) -> np.ndarray:
    """Expected best-minus-worst gap of n samples drawn without replacement from each prompt's N.

    In sorted order, the k-th of N scores is the largest in C(k - 1, n - 1) of the C(N, n) subsets, and the smallest in
    C(N - k, n - 1). The mean over all subsets therefore needs no enumeration.

    Returns:
        float64 [P, N - 1]; column j is n = j + 2.
    """
    ranked_PN = np.sort(scores_PN, axis=1)
    count = scores_PN.shape[1]
    columns = []
    for size in range(2, count + 1):
        signs = [math.comb(k, size - 1) - math.comb(count - 1 - k, size - 1) for k in range(count)]
        columns.append(ranked_PN @ np.array([sign / math.comb(count, size) for sign in signs]))
    return np.stack(columns, axis=1)


def _full_prompts(finished: Finished) -> np.ndarray:
    """OmniScores [P, N] of the prompts that have all their samples."""
    groups = [group.to_numpy() for _, group in finished.scores.groupby("prompt_id", sort=True).omniscore]
    count = max((len(group) for group in groups), default=0)
    full = [group for group in groups if len(group) == count]
    return np.stack(full) if full else np.empty((0, 0))


def _bins(values: np.ndarray) -> pd.DataFrame:
    """Bars of a histogram: their ends, and the number of values."""
    low, high = math.floor(values.min() / _BIN), math.floor(values.max() / _BIN) + 1
    step = max(1, math.ceil((high - low) / _MAX_BARS))
    edges = np.arange(low, high + step, step) * _BIN
    counts, _ = np.histogram(values, edges)
    return pd.DataFrame({"from": edges[:-1], "to": edges[1:], "count": counts})


def _histogram(figure: Figure, theme: Theme, values: np.ndarray, label: str, unit: str) -> None:
    axes = figure.subplots()
    bins = _bins(values)
    first, last = float(bins["from"].iloc[0]), float(bins["to"].iloc[-1])
    width = 0.88 * (last - first) / len(bins)
    axes.bar(bins["from"], bins["count"], width=width, align="edge", color=theme.accent)
    mean = float(values.mean())
    axes.axvline(mean, color=theme.contrast, linewidth=1.4, linestyle=(0, (5, 2)))
    right = mean > (first + last) / 2
    axes.annotate(
        f"mean {mean:.3f}, sd {values.std():.3f}",
        (mean, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if right else 5, 2),
        textcoords="offset points",
        ha="right" if right else "left",
        va="bottom",
        color=theme.contrast,
        fontsize=8.5,
    )
    axes.set_xlabel(label)
    axes.set_ylabel(unit)
    axes.yaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))


def _gap_by_samples(figure: Figure, theme: Theme, scores_PN: np.ndarray) -> None:
    axes = figure.subplots()
    table = _gap_table(scores_PN)
    sizes, mean = table.samples.to_numpy(), table["mean"].to_numpy()
    axes.fill_between(sizes, table.quarter_1, table.quarter_3, color=theme.accent, alpha=0.16, linewidth=0)
    axes.errorbar(sizes, mean, table.error, color=theme.accent, marker="o", markersize=5, capsize=3, elinewidth=1.2)
    for size, value in zip(sizes, mean, strict=True):
        axes.annotate(f"{value:.3f}", (size, value), xytext=(8, -11), textcoords="offset points", fontsize=8.5)
    axes.set_xticks(sizes)
    axes.set_xlim(sizes[0] - 0.4, sizes[-1] + 0.4)
    axes.set_ylim(bottom=0)
    axes.margins(y=0.15)
    axes.set_xlabel("samples used of each prompt, n")
    axes.set_ylabel("expected gap, OmniScore")


def _gap_table(scores_PN: np.ndarray) -> pd.DataFrame:
    """Rows of the figure: number of samples, mean gap, half of its 95 % interval, quartiles over the prompts."""
    gaps = expected_gaps(scores_PN)
    low, high = np.percentile(gaps, [25, 75], axis=0)
    mean = gaps.mean(axis=0)
    error = 1.96 * gaps.std(axis=0, ddof=1) / math.sqrt(len(gaps)) if len(gaps) > 1 else np.zeros_like(mean)
    sizes = np.arange(2, scores_PN.shape[1] + 1)
    return pd.DataFrame({"samples": sizes, "mean": mean, "error": error, "quarter_1": low, "quarter_3": high})


def _correlations(figure: Figure, theme: Theme, names: list[str], values: np.ndarray) -> None:
    axes = figure.subplots()
    colours = LinearSegmentedColormap.from_list("diverging", [theme.contrast, theme.surface, theme.accent])
    axes.imshow(
        np.ma.masked_invalid(values), cmap=colours.with_extremes(bad=theme.grid), vmin=-1, vmax=1, aspect="auto"
    )
    for row in range(len(names)):
        for column in range(len(names)):
            value = values[row, column]
            strong = np.isfinite(value) and abs(value) > 0.6
            text = f"{value:.2f}".replace("-", "\N{MINUS SIGN}") if np.isfinite(value) else "\N{EN DASH}"
            axes.text(
                column, row, text, ha="center", va="center", color=theme.surface if strong else theme.ink, fontsize=8
            )
    labels = [name.replace("_", " ") for name in names]
    axes.set_xticks(range(len(names)), labels, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(names)), labels)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _forest_table(finished: Finished) -> pd.DataFrame:
    rows = []
    for name in finished.summary["order"]:
        row = finished.summary["dimensions"][name]
        scores = finished.comparison[finished.comparison.dimension == name]
        # Standard deviation over both arms' clips. A dimension that never varies has no change to scale.
        spread = float(np.concatenate([scores.base - scores.base.mean(), scores.aligned - scores.aligned.mean()]).std())
        columns = {key: row[key] for key in ("kind", "base", "aligned", "delta", "ci_low", "ci_high")}
        rows.append({"name": name, **columns, "standard_deviation": spread})
    return pd.DataFrame(rows)


def _forest(figure: Figure, theme: Theme, table: pd.DataFrame) -> None:
    axes: Axes = figure.subplots()
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    for number, row in enumerate(rows):
        spread = row["standard_deviation"] or 1.0
        ends = [None if row[key] is None else row[key] / spread for key in ("ci_low", "ci_high")]
        draw_interval(axes, theme, -number, row["delta"] / spread, *ends)
    names = [row["name"].replace("_", " ") for row in rows]
    label_rows(axes, theme, names, "change, in standard deviations (judges in italics)")
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        if row["kind"] == "total":
            label.set_fontweight("bold")
        if row["kind"] == "judge":
            label.set_fontstyle("italic")
