"""Curves of the training log: loss, margin, accuracy, and drift of winner and loser."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from videodpo.stages.report.style import Drawn, FigureFolder, Theme
from videodpo.storage.schemas import DRIFT_BUCKETS

_OVERVIEW = ["loss", "weight_mean", "margin", "accuracy"]
_OVERVIEW += [f"{error}_{side}" for side in ("winner", "loser") for error in ("error", "ref_error")]
_WINDOWS = 40  # the bold line averages over windows of 1/40 of the training


def training_figures(train_log: pd.DataFrame, folder: FigureFolder) -> list[Drawn]:
    """Draw four panels over the steps, and the drift by noise level if the log has it."""
    if train_log.empty:
        return []
    window = max(1, len(train_log) // _WINDOWS)
    steps = train_log[["step", *_OVERVIEW, *(name for name in train_log.columns if "_drift_" in name)]]
    note = f"Thin: every step; bold: mean over {window} steps. " if window > 1 else ""
    drawn = [
        folder.draw(
            "training",
            lambda figure, theme: _overview(figure, theme, train_log, window),
            data=steps[["step", *_OVERVIEW]],
            title="Training",
            caption=note
            + "Drift is the error minus the reference's error on the same noise: alignment should pull the "
            "winner below zero, not only push the loser above it.",
            size=(13.0, 5.4),
        )
    ]
    if train_log["winner_drift_0"].notna().any():
        drawn.append(
            folder.draw(
                "drift-by-noise",
                lambda figure, theme: _by_noise(figure, theme, train_log, window),
                data=steps.drop(columns=_OVERVIEW),
                title="Drift by noise level",
                caption="The timestep range in equal parts, low noise first.",
                size=(13.0, 3.0),
            )
        )
    return drawn


def _overview(figure: Figure, theme: Theme, log: pd.DataFrame, window: int) -> None:
    (loss, margin), (accuracy, drift) = figure.subplots(2, 2, sharex=True)
    start = math.log(2) * float(log.weight_mean.mean())
    _curves(loss, log.step, {"": (log.loss, theme.accent)}, window, "loss")
    loss.axhline(start, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
    loss.annotate(
        "weight · ln 2: no preference learnt",
        (1.0, start),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        color=theme.muted,
        fontsize=8,
    )
    _curves(margin, log.step, {"": (log.margin, theme.accent)}, window, "implicit reward margin")
    margin.axhline(0, color=theme.muted, linewidth=1)
    _curves(accuracy, log.step, {"": (log.accuracy, theme.accent)}, window, "accuracy: winner preferred")
    accuracy.axhline(0.5, color=theme.muted, linewidth=1, linestyle=(0, (4, 3)))
    accuracy.set_ylim(0, 1.02)
    sides = {
        "winner": (log.error_winner - log.ref_error_winner, theme.accent),
        "loser": (log.error_loser - log.ref_error_loser, theme.contrast),
    }
    _curves(drift, log.step, sides, window, "drift: error minus reference error")
    drift.axhline(0, color=theme.muted, linewidth=1)
    drift.legend(loc="upper left", ncols=2)
    for axes in (accuracy, drift):
        axes.set_xlabel("step")


def _by_noise(figure: Figure, theme: Theme, log: pd.DataFrame, window: int) -> None:
    panels = figure.subplots(1, DRIFT_BUCKETS, sharey=True)
    for bucket, axes in enumerate(panels):
        sides = {
            side: (log[f"{side}_drift_{bucket}"], colour)
            for side, colour in (("winner", theme.accent), ("loser", theme.contrast))
        }
        _curves(axes, log.step, sides, window, f"noise {bucket + 1} of {DRIFT_BUCKETS}")
        axes.axhline(0, color=theme.muted, linewidth=1)
        axes.set_xlabel("step")
    panels[0].legend(loc="upper left")


def _curves(axes: Axes, steps: pd.Series, lines: Mapping[str, tuple[pd.Series, str]], window: int, title: str) -> None:
    for (label, (values, colour)), style in zip(lines.items(), ("-", (0, (4, 1.5))), strict=False):
        if window > 1:
            axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.35)
        smooth = values.rolling(window, center=True, min_periods=1).mean()
        axes.plot(steps, smooth.to_numpy(np.float64), color=colour, linestyle=style, label=label)
    axes.set_title(title)
