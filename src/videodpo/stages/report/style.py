"""Style of the figures in a light and a dark theme, and their files."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from videodpo.storage.files import write_text


@dataclass(frozen=True)
class Theme:
    """Colours of one theme; `accent` and `contrast` differ in hue and lightness for every kind of colour vision."""

    name: str
    ink: str
    muted: str
    grid: str
    surface: str
    accent: str
    contrast: str


LIGHT = Theme("light", "#1c2024", "#60686f", "#e4e7ea", "#ffffff", "#0a63b0", "#d2691e")
DARK = Theme("dark", "#e9ecef", "#9aa3ab", "#2c3238", "#171a1d", "#62b0ff", "#ffa45c")


@dataclass(frozen=True)
class Drawn:
    """One figure on the page: title, caption, its two files relative to the page, and its size."""

    title: str
    caption: str
    light: str
    dark: str
    width: int
    height: int


class FigureFolder:
    """Writes each figure once for each theme."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._written: set[str] = set()

    def draw(
        self,
        name: str,
        paint: Callable[[Figure, Theme], None],
        *,
        title: str,
        caption: str,
        size: tuple[float, float] = (6.2, 3.3),
    ) -> Drawn:
        """Draw a figure in both themes and save it.

        Args:
            name: stem of the file names.
            paint: fills a figure in the given theme.
            title, caption: text for the page.
            size: width and height in inches.
        """
        for theme in (LIGHT, DARK):
            with matplotlib.rc_context(_rc(theme)):
                figure = Figure(figsize=size, layout="constrained")
                paint(figure, theme)
                buffer = io.BytesIO()
                # No date, no creator and a fixed salt for ids, so that the same figure has the same bytes.
                figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
            file = f"{name}-{theme.name}.svg"
            write_text(self._folder / file, buffer.getvalue().decode())
            self._written.add(file)
        paths = [f"{self._folder.name}/{name}-{theme.name}.svg" for theme in (LIGHT, DARK)]
        return Drawn(title, caption, paths[0], paths[1], round(size[0] * 100), round(size[1] * 100))

    def remove_others(self) -> None:
        """Delete figures left by an earlier report."""
        for file in self._folder.glob("*"):
            if file.name not in self._written:
                file.unlink()


def _rc(theme: Theme) -> dict[str, Any]:
    return {
        "svg.hashsalt": "videodpo",
        "svg.fonttype": "path",
        "font.family": "DejaVu Sans",
        "font.size": 9,
        "text.color": theme.ink,
        "axes.labelcolor": theme.muted,
        "axes.edgecolor": theme.grid,
        "axes.titlesize": 9,
        "axes.titlelocation": "left",
        "axes.titlecolor": theme.ink,
        "axes.labelsize": 8.5,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "grid.color": theme.grid,
        "grid.linewidth": 0.8,
        "xtick.color": theme.muted,
        "ytick.color": theme.muted,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "ytick.left": False,
        "xtick.major.size": 3,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "lines.linewidth": 1.8,
        "lines.solid_capstyle": "round",
    }
