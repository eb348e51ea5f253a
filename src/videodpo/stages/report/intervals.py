"""Rows of a forest plot: a mean with its interval, and the labels of the rows."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from videodpo.stages.report.style import Theme


def draw_interval(
    axes: Axes, theme: Theme, height: float, middle: float, low: float | None, high: float | None
) -> None:
    """Draw one mean and its interval, if there is one. Filled: the interval excludes zero. A triangle is a loss."""
    colour = theme.contrast if middle < 0 else theme.accent
    is_clear = False
    if low is not None and high is not None:
        axes.plot([low, high], [height, height], color=colour, linewidth=2.0, zorder=2)
        is_clear = low > 0 or high < 0
    marker, fill = "v" if middle < 0 else "o", colour if is_clear else theme.surface
    axes.plot(middle, height, marker, color=colour, markerfacecolor=fill, markersize=6.5)


def label_rows(axes: Axes, theme: Theme, names: Sequence[str], label: str) -> None:
    """Label the rows, the first at height 0 and each further one 1 below, and the axis of the values."""
    axes.axvline(0, color=theme.muted, linewidth=1)
    axes.set_yticks([-float(number) for number in range(len(names))], names)
    for text in axes.get_yticklabels():
        text.set_color(theme.ink)
    axes.set_ylim(-len(names) + 0.4, 0.6)
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.set_xlabel(label)
